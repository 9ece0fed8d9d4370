package client_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"time"
)

// token makes a token for the house's key.
func token(user string, expires time.Time) string {
	b64 := base64.RawURLEncoding.EncodeToString
	head := b64([]byte(`{"alg":"HS256","typ":"JWT","kid":"k"}`))
	body := b64(fmt.Appendf(nil, `{"sub":%q,"exp":%d}`, user, expires.Unix()))
	mac := hmac.New(sha256.New, []byte(tokenKey))
	mac.Write([]byte(head + "." + body))
	return head + "." + body + "." + b64(mac.Sum(nil))
}
