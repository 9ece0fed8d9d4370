import type { Carrier, CarrierEvents, Dial } from './way.js';

/** What the browser's WebSocket and ours for Node have in common. */
export interface Socket {
  binaryType: string;
  onopen: (() => void) | null;
  onmessage: ((e: { data: unknown }) => void) | null;
  onclose: ((e: { code?: number; reason?: string }) => void) | null;
  onerror: ((e: unknown) => void) | null;
  send(data: Uint8Array): void;
  close(): void;
}

export type SocketConstructor = new (url: string, protocols: string[]) => Socket;

/** Dials a WebSocket that carries the link protocol in binary messages. */
export function webSocketDial(url: string, WebSocket: SocketConstructor): Dial {
  return (on: CarrierEvents): Carrier => {
    const ws = new WebSocket(url, ['posthouse.link.1']);
    ws.binaryType = 'arraybuffer';
    ws.onopen = () => on.open();
    ws.onmessage = (e) => {
      if (e.data instanceof ArrayBuffer) on.data(new Uint8Array(e.data));
    };
    let over = false;
    const end = (why: string, reset: boolean) => {
      if (!over) on.closed(why, reset);
      over = true;
    };
    // "fire an event named error" and then "an event named close"
    // WebSockets (WHATWG), section 4. The WebSocket of Node 22 stops at the first.
    ws.onerror = (e) => setTimeout(() => end((e as { message?: string } | undefined)?.message || 'the WebSocket failed', true));
    // A page is not told of a reset, only that nobody said goodbye: "the connection was closed abnormally"
    // RFC 6455 section 7.4.1
    ws.onclose = (e) => end(e.reason || `the WebSocket was closed (${e.code ?? 1006})`, (e.code ?? 1006) === 1006);
    return {
      send: (bytes) => ws.send(bytes),
      close: () => ws.close(),
    };
  };
}
