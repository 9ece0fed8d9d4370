import { connect as connectTcp, isIP } from 'node:net';
import { connect as connectTls } from 'node:tls';

import type { Carrier, CarrierEvents, Dial } from '../way.js';

/** Dials TCP, or TLS with a certificate that the system trusts. */
export function tcpDial(host: string, port: number, tls: boolean): Dial {
  const name = host.replace(/^\[|\]$/g, ''); // of an IPv6 address in a URL
  return (on: CarrierEvents): Carrier => {
    const socket = tls
      ? connectTls({ host: name, port, minVersion: 'TLSv1.2', ...(isIP(name) ? {} : { servername: name }) })
      : connectTcp({ host: name, port });
    socket.setNoDelay(true);
    let why = 'the connection was closed';
    socket.once(tls ? 'secureConnect' : 'connect', () => on.open());
    socket.on('data', (b) => on.data(new Uint8Array(b.buffer, b.byteOffset, b.byteLength)));
    socket.on('error', (e) => (why = e.message));
    socket.once('end', () => socket.destroy());
    socket.once('close', () => on.closed(why));
    return {
      send: (bytes) => socket.write(bytes),
      close: () => socket.destroySoon(),
    };
  };
}
