// Package link
package link
