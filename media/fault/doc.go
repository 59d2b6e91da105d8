// Package fault makes media workers misbehave, for tests. All but this comment is
// behind the build tag "faults": the ordinary binary has none of it. It imports
// package media, its sibling wire and the standard library.
package fault
