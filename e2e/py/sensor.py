"""usage: sensor.py HOST PORT CLIENT-ID

Does what each line of standard input says, by the MQTT-SN client mqtt-sn-12, and answers with a line:

    connect                  without clean session, with a will
    subscribe QOS TOPIC
    publish QOS TOPIC TEXT
    predefined QOS ID TEXT
    sleep SECONDS
    wake                     asks for what waits: its count
    receive                  waits for a message: topic and text
    find                     a gateway
"""
import sys
import time

from mqttsn12.client.MqttSnClient import MqttSnClient, MqttSnListener
from mqttsn12.packets import PublishPacket

# mqtt-sn-12 1.0.9 compares the QoS of a message with the flag for it, and so would never send PUBACK.
PublishPacket.get_qos = lambda p: p.flags & 0x60

host, port, name = sys.argv[1:4]
got = []
PINGRESP, DISCONNECT = 0x17, 0x18
PATIENCE = 60  # seconds


class Listener(MqttSnListener):
    def message_arrived(self, msg):
        got.append((msg.get_topic_name(), msg.get_payload().decode()))


client = MqttSnClient()
client.set_client_id(name)
client.set_clean_session(False)
client.set_keep_alive(60)
client.set_timeout(PATIENCE)
client.set_will("will/" + name, "gone", 1, False)
client.open(host, int(port))


def receive():
    end = time.time() + PATIENCE
    while not got:
        client.polling()
        if time.time() > end:
            return "nothing came"
        time.sleep(0.01)
    return "%s %s" % got.pop(0)


def wake():
    """PINGREQ with the client id, for which the client has no method."""
    client.send_packet(bytes([2 + len(name), 0x16]) + name.encode())
    before = len(got)
    end = time.time() + PATIENCE
    while time.time() < end:
        client.datagram_socket.settimeout(PATIENCE)
        head = client.datagram_socket.recv(2000, 2)  # MSG_PEEK
        if head[1] in (PINGRESP, DISCONNECT):
            client.datagram_socket.recv(2000)
            return "disconnected" if head[1] == DISCONNECT else str(len(got) - before)
        client.polling()
    return "no PINGRESP"


for line in sys.stdin:
    verb, *args = line.rstrip("\n").split(" ", 3)
    answer = "ok"
    try:
        if verb == "connect":
            client.send_connect()
        elif verb == "subscribe":
            client.send_subscribe(args[1], int(args[0]), Listener())
        elif verb == "publish":
            client.send_publish(args[1], args[2].encode(), int(args[0]))
        elif verb == "predefined":
            client.send_publish_predefined(int(args[1]), args[2].encode(), int(args[0]))
        elif verb == "sleep":
            client.send_disconnect(int(args[0]))
        elif verb == "wake":
            answer = wake()
        elif verb == "receive":
            answer = receive()
        elif verb == "find":
            client.send_search_gateway(0)
    except Exception as e:
        answer = "error: %s" % e
    print(answer, flush=True)
