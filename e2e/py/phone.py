"""usage: phone.py HOST PORT VERSION CAFILE DIR COUNT

An application on alice's phone that has nothing but Eclipse Paho. What arrives
in her mailbox it writes to DIR/inbox, a line each, before it acknowledges. It
sends COUNT messages to bob and writes to DIR/sent which have been acknowledged.
It may be killed at any time, and goes on where it was.
"""
import os
import ssl
import sys
import time

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

host, port, version, cafile, where, count = sys.argv[1:]
v5 = version == "5"


def append(name, text):
    with open(os.path.join(where, name), "a") as f:
        f.write(text + "\n")
        f.flush()
        os.fsync(f.fileno())


def sent():
    try:
        with open(os.path.join(where, "sent")) as f:
            return {int(line) for line in f.read().split("\n")[:-1]}
    except FileNotFoundError:
        return set()


class Client(mqtt.Client):
    """Takes all that TLS says of a broken connection for what it is; Paho's
    thread would end."""

    def _sock_send(self, buf):
        try:
            return super()._sock_send(buf)
        except ssl.SSLError as e:
            raise ConnectionError(str(e)) from e

    def _sock_recv(self, size):
        try:
            return super()._sock_recv(size)
        except ssl.SSLError as e:
            raise ConnectionError(str(e)) from e


keep = {} if v5 else {"clean_session": False}
c = Client("phone", protocol=mqtt.MQTTv5 if v5 else mqtt.MQTTv311, **keep)
c.username_pw_set("alice", "secret")
c.tls_set(ca_certs=cafile)
c.tls_insecure_set(True)  # the certificate is for another name
c.reconnect_delay_set(0.1, 0.5)
c.on_message = lambda c, u, m: append("inbox", m.payload.decode())
c.on_connect = lambda c, u, flags, rc, *more: c.subscribe("im/inbox/#", 1)
session = {}
if v5:
    session = {"clean_start": False, "properties": Properties(PacketTypes.CONNECT)}
    session["properties"].SessionExpiryInterval = 3600
while True:
    try:
        c.connect(host, int(port), 3, **session)
        break
    except OSError:
        time.sleep(0.2)
c.loop_start()

# Without a connection publish takes a message, too, and says that it failed, so
# what counts is the acknowledgement.
acknowledged = set()
c.on_publish = lambda c, u, mid: acknowledged.add(mid)
done, flying = sent(), []
todo = [n for n in range(int(count)) if n not in done]
while todo or flying:
    while todo and len(flying) < 10:
        n = todo.pop(0)
        said = None
        if v5:
            said = Properties(PacketTypes.PUBLISH)
            said.UserProperty = ("id", "up-%d" % n)
        flying.append((n, c.publish("im/to/bob", "up-%d" % n, 1, properties=said).mid))
    while flying and flying[0][1] in acknowledged:
        append("sent", str(flying.pop(0)[0]))
    time.sleep(0.02)
while True:
    time.sleep(1)
