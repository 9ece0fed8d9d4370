"""usage: slix.py HOST PORT USER send TO     each line of standard input, base64 of a text, is one message
          slix.py HOST PORT USER recv N      prints the bodies of N messages, base64, a line each

SLIX_TLS=direct begins with TLS; otherwise STARTTLS. The password is always "secret".
"""
import asyncio
import base64
import os
import ssl
import sys

import slixmpp

host, port, user, verb, arg = sys.argv[1:6]


class Client(slixmpp.ClientXMPP):
    def __init__(self):
        super().__init__(f"{user}@localhost/{os.environ.get('DEVICE', 'slix-' + verb)}", "secret")
        for plugin in ("xep_0030", "xep_0198", "xep_0199"):
            self.register_plugin(plugin)
        self.ssl_context.check_hostname = False
        self.ssl_context.verify_mode = ssl.CERT_NONE
        self.left = int(arg) if verb == "recv" else 0
        self.failed = False
        self.add_event_handler("session_start", self.started)
        self.add_event_handler("failed_all_auth", self.refused)
        if verb == "recv":
            self.add_event_handler("message", self.received)

    def refused(self, _):
        self.failed = True
        self.disconnect()

    async def started(self, _):
        if verb == "recv":
            self.send_presence()
            return
        for line in sys.stdin:
            self.send_message(mto=arg, mbody=base64.b64decode(line).decode(), mtype="chat")
        # What was sent before a ping has been dealt with when its answer is here.
        await self["xep_0199"].send_ping("localhost", timeout=60)
        print("stored", flush=True)
        self.disconnect()

    def received(self, msg):
        if not msg["body"] or self.left == 0:
            return
        print(base64.b64encode(msg["body"].encode()).decode(), flush=True)
        self.left -= 1
        if self.left == 0:
            self.disconnect(wait=2)


client = Client()
direct = os.environ.get("SLIX_TLS") == "direct"
client.connect((host, int(port)), use_ssl=direct, force_starttls=not direct)
client.process(forever=False)
sys.exit(1 if client.failed else 0)
