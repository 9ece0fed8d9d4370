package auth

import (
	"errors"
	"testing"
)

func TestVouched(t *testing.T) {
	ctx := t.Context()
	a := open(t, newMail(t), Config{Domain: "localhost", Iterations: 4096})
	if err := a.Add(ctx, "meters", "pw", RoleApp); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"meters", "meters@localhost"} {
		if who, err := a.Vouched(ctx, name); err != nil || who.User != "meters@localhost" || who.Role != RoleApp {
			t.Errorf("%s: %+v, %v", name, who, err)
		}
	}
	if err := a.SetDisabled(ctx, "meters", true); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"meters", "nobody", "", "meters@elsewhere", "meters/x"} {
		if _, err := a.Vouched(ctx, name); !errors.Is(err, ErrDenied) {
			t.Errorf("%q: %v", name, err)
		}
	}
}
