// Package desktop runs a session's display, sound server and program as one tree
// of processes, and promises that all of it goes when the session goes: within
// three seconds of the order, down to grandchildren that left their session,
// ignore SIGTERM or were forked twice, and also when the server or the supervisor
// itself was killed.
//
// Desktop is the parent's side. It starts our own binary again as a supervisor
// (Main), which is a subreaper: whatever the program leaves behind becomes its
// child. They talk over a socket, fd 3 of the supervisor; its end is a stop order,
// so a server that is killed takes its desktops along. Each process carries the
// session's id in its environment, by which Desktop and ReapLeftovers find what is
// left when the supervisor was killed too.
//
// On a display of its own the desktop manages the windows, too (room wm), from
// before the program starts until before the display ends; without it, after an
// error, the session goes on. A display that is not ours is left to its own.
//
// Nothing here is C, and nothing waits without a bound. It imports media,
// media/x11, its own rooms (tree: processes; traces: what lies on the machine;
// environ: variables; wm: windows), xgb, golang.org/x/sys and the standard library.
package desktop
