"""usage: paho_all.py CARRIER HOST PORT VERSION CAFILE TAG

Does with Eclipse Paho what an application does with a broker, and prints a line
for each thing that went well. CARRIER is tcp, tls, ws or wss, VERSION 311 or 5.
The users are alice and bob, their password is "secret". TAG keeps the topics and
the client identifiers of one run apart from those of another.
"""
import queue
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

carrier, host, port, version, cafile, tag = sys.argv[1:]
v5 = version == "5"
PATIENCE = 60


class Client:
    def __init__(self, name, user="alice", clean=True, will=None):
        keep = {} if v5 else {"clean_session": clean}
        self.c = mqtt.Client(
            tag + name, protocol=mqtt.MQTTv5 if v5 else mqtt.MQTTv311,
            transport="websockets" if carrier in ("ws", "wss") else "tcp", **keep)
        if carrier in ("ws", "wss"):
            self.c.ws_set_options(path="/mqtt")
        if carrier in ("tls", "wss"):
            self.c.tls_set(ca_certs=cafile)
        self.c.username_pw_set(user, "secret")
        if will:
            self.c.will_set(tag + will, b"gone", qos=1)
        self.got, self.up, self.acked = queue.Queue(), queue.Queue(), queue.Queue()
        self.c.on_message = lambda c, u, m: self.got.put(m)
        self.c.on_connect = lambda c, u, flags, rc, *more: self.up.put((flags["session present"], int(rc if not v5 else rc.value)))
        self.c.on_subscribe = lambda c, u, mid, granted, *more: self.acked.put([int(g.value) if v5 else g for g in granted])
        if v5:
            expiry = Properties(PacketTypes.CONNECT)
            expiry.SessionExpiryInterval = 0 if clean else 3600
            self.c.connect(host, int(port), clean_start=clean, properties=expiry)
        else:
            self.c.connect(host, int(port))
        self.c.loop_start()
        self.present, rc = self.up.get(timeout=PATIENCE)
        assert rc == 0, rc

    def subscribe(self, filter, qos):
        self.c.subscribe(filter, qos)
        assert self.acked.get(timeout=PATIENCE) == [qos]
        return self

    def publish(self, topic, payload, qos, retain=False):
        info = self.c.publish(topic, payload, qos, retain)
        info.wait_for_publish(PATIENCE)
        assert info.is_published(), topic

    def receive(self):
        return self.got.get(timeout=PATIENCE)

    def nothing(self):
        """A message that the client sends to itself comes behind what is on the way."""
        self.subscribe(tag + "fence", 1)
        self.publish(tag + "fence", b"", 1)
        m = self.receive()
        assert m.topic == tag + "fence", m.topic

    def bye(self):
        self.c.disconnect()
        self.c.loop_stop()

    def drop(self):
        """Without DISCONNECT."""
        self.c.loop_stop()
        self.c._sock_close()


def qos():
    sub, pub = Client("sub").subscribe(tag + "q/#", 2), Client("pub", "bob")
    for q in range(3):
        pub.publish(tag + "q/%d" % q, bytes(range(256)), q)
        m = sub.receive()
        assert (m.topic, m.qos, m.payload, m.retain) == (tag + "q/%d" % q, q, bytes(range(256)), 0), (m.topic, m.qos)
    sub.bye()
    pub.bye()


def retained():
    pub = Client("pub")
    pub.publish(tag + "r", b"kept", 1, retain=True)
    sub = Client("sub", "bob").subscribe(tag + "r", 1)
    m = sub.receive()
    assert (m.payload, m.retain, m.qos) == (b"kept", 1, 1)
    pub.publish(tag + "r", b"", 1, retain=True)
    assert sub.receive().payload == b""
    sub.bye()
    sub = Client("sub", "bob").subscribe(tag + "r", 1)
    sub.nothing()
    sub.bye()
    pub.bye()


def will():
    sub = Client("sub").subscribe(tag + "w", 1)
    Client("dies", "bob", will="w").drop()
    assert sub.receive().payload == b"gone"
    Client("leaves", "bob", will="w").bye()
    sub.nothing()
    sub.bye()


def session():
    sub = Client("kept", clean=False).subscribe(tag + "s", 2)
    assert not sub.present
    sub.bye()
    pub = Client("pub", "bob")
    for i in range(20):
        pub.publish(tag + "s", b"%d" % i, 1 + i % 2)
    sub = Client("kept", clean=False)
    assert sub.present
    got = {1: [], 2: []}  # the client hands a QoS 2 message on when it is released
    for i in range(20):
        m = sub.receive()
        got[m.qos].append(int(m.payload))
    assert got == {1: list(range(0, 20, 2)), 2: list(range(1, 20, 2))}, got
    sub.bye()
    sub = Client("kept", clean=False)
    sub.nothing()
    sub.bye()
    pub.bye()


def mailbox():
    alice = Client("phone")
    alice.publish("im/to/bob", tag.encode(), 1)
    bob = Client("phone", "bob", clean=False).subscribe("im/inbox/#", 2)
    while True:
        m = bob.receive()
        assert m.topic == "im/inbox/alice@localhost", m.topic
        if m.payload == tag.encode():
            break
    bob.bye()
    alice.publish("im/to/bob", b"later " + tag.encode(), 2)
    bob = Client("phone", "bob", clean=False)
    assert bob.receive().payload == b"later " + tag.encode()
    bob.bye()
    alice.bye()


for step in qos, retained, will, session, mailbox:
    step()
    print(step.__name__, flush=True)
