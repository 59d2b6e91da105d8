// Package x11 is a connection to an X server that can never block for ever.
//
// It wraps github.com/jezek/xgb, whose generated packages (xproto, randr,
// damage, xfixes, shm, xtest, …) work on Conn.X as usual, and takes away what
// makes xgb unfit for a server that talks to many displays at once:
//
//   - A write to a server that does not read is given up after WriteBound, an
//     answer that does not come after ReplyBound; Close, or the end of Dial's
//     context, ends every pending call and every goroutine of the connection.
//   - xgb keeps the numbers of extension events and errors in global maps,
//     written without a lock by each extension's Init: with two connections that
//     is a crash, with two different X servers it is the wrong event. Here these
//     numbers belong to the connection: call Conn.Use, never an extension's Init.
//   - xgb stops reading when nobody takes its events. Here events go to a ring;
//     a reader that is too slow is told so by ErrEventsLost.
//   - The cookie is passed by value, not looked up in the environment.
//
// It imports package media, xgb and the standard library.
package x11
