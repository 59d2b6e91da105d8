// Package quota holds a desktop to what it may take of the machine: processes,
// memory, open files, a share of the processors. Where the kernel lets us make
// control groups, it does the holding, so that nothing outruns it; everywhere else,
// and in addition, the process tree is measured several times a second. It imports
// its sibling tree, package media, golang.org/x/sys and the standard library.
package quota
