// Package nat puts the server and the SDK on the two sides of a carrier's NAT,
// the kernel's own, and sees what becomes of their connections. It has tests
// only; carrier-nat.sh builds the NAT out of network namespaces and can be
// used by hand as well.
package nat
