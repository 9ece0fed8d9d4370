package client_test

import (
	"testing"

	"github.com/posthouse-im/posthouse/client"
	"github.com/posthouse-im/posthouse/client/internal/storetest"
)

func TestMemory(t *testing.T) {
	s := new(client.Memory)
	storetest.Run(t, func() client.Store { return s })
}
