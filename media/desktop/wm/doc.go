// Package wm is the window manager of a session's own display, as small as a
// streamed program can do with. It promises that there is always a window that has
// the keyboard, the newest that takes it, wherever the pointer is; that small
// windows are in the middle of the screen, dialogs over their parents, and large or
// fullscreen ones follow the size of the screen; and that what SDL, GTK, Qt and
// Wine ask a window manager for (EWMH, ICCCM) is done. There are no decorations, no
// icons and no keys of its own. Windows with override-redirect are left alone.
//
// It grabs nothing. Click-to-focus would need a synchronous grab of the buttons,
// under which every click waits for the window manager: one that is slow or stopped
// would stop the input. Instead the keyboard follows the pointer when the player
// moves it into another window (but stays with that window's dialog); windows that
// come and go under a resting pointer do not count. Nothing is raised by that: with
// no taskbar there would be no way back to a small window behind a large one.
//
// When it ends, the windows stay as they are and X goes on as without a window
// manager. A program that is a window manager itself has to be told to replace this
// one, as with openbox --replace; Run then returns ErrTaken.
//
// It imports media, media/x11, xgb and the standard library.
package wm
