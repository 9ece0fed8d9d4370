import { connect as connectTcp, isIP } from 'node:net';
import { connect as connectTls } from 'node:tls';

import type { Carrier, CarrierEvents, Dial } from '../way.js';

export const goodbyeTime = 2_000; // in which the other end must have taken what was said, or we go

/** Dials TCP, or TLS with a certificate that the system trusts. */
export function tcpDial(host: string, port: number, tls: boolean): Dial {
  const name = host.replace(/^\[|\]$/g, ''); // of an IPv6 address in a URL
  return (on: CarrierEvents): Carrier => {
    const socket = tls
      ? connectTls({ host: name, port, minVersion: 'TLSv1.2', ...(isIP(name) ? {} : { servername: name }) })
      : connectTcp({ host: name, port });
    socket.setNoDelay(true);
    let why = 'the connection was closed';
    let reset = false;
    let open = false;
    socket.once(tls ? 'secureConnect' : 'connect', () => {
      open = true;
      on.open();
    });
    socket.on('data', (b) => on.data(new Uint8Array(b.buffer, b.byteOffset, b.byteLength)));
    socket.on('error', (e: NodeJS.ErrnoException) => {
      why = e.message;
      reset = e.code === 'ECONNRESET' || e.code === 'EPIPE';
    });
    socket.once('end', () => socket.destroy());
    socket.once('close', () => on.closed(why, reset));
    return {
      send: (bytes) => socket.write(bytes),
      close() {
        if (!open) return void socket.destroy();
        socket.destroySoon();
        setTimeout(() => socket.destroy(), goodbyeTime).unref();
      },
    };
  };
}
