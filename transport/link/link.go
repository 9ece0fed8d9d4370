// Package link is the door of our own long connection: a compact protocol over
// TCP, TLS and WebSocket. Its frames are those of transport/link/frame.
//
//	C: HELLO    who I am, which device, how often I will speak
//	S: WELCOME  what is agreed, and where reading begins
//	S: MSG      in the same flight, and whenever there is one
//	C: ACK      the device has stored everything up to there
//	C: SEND     a message
//	S: STORED   it is durable; or REFUSED, and why
//	C: PING     a heartbeat
//	S: CLOSE    why, and when to come back
package link
