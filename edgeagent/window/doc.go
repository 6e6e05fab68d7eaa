// Package window says when images may be pulled: in windows that recur, such as each night
// from one to five where the node stands.
//
// It owns reading and judging windows; it has no clock, starts and stops nothing, and does
// not know what a pull is. A window is written as a cron expression for when it opens, how
// long it lasts, and the time zone that both are meant in:
//
//	0 1 * * * for 4h in Europe/Lisbon
//
// Windows may overlap: it is open while one of them is. A window lasts as long as it says
// also when clocks are put forward or back meanwhile. One that would open in an hour that
// a day does not have is left out that day.
//
// A clock that is wrong must not open or close anything: before the time at which the
// program was built every window is closed, and At says why.
package window
