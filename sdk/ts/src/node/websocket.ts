// A WebSocket for Node: the client's side of RFC 6455, as much as the link
// protocol needs. Node 20 has none by itself, and those of later ones do not say
// why they failed.

import { createHash, randomBytes } from 'node:crypto';
import { request as requestHttp } from 'node:http';
import { request as requestHttps } from 'node:https';
import type { Duplex } from 'node:stream';

import type { Socket } from '../websocket.js';
import { goodbyeTime } from './tcp.js';

const guid = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
const [continuation, binary, close, ping, pong] = [0x0, 0x2, 0x8, 0x9, 0xa];
const mostBytes = 64 << 20; // of one message

export class NodeWebSocket implements Socket {
  binaryType = 'arraybuffer';
  onopen: Socket['onopen'] = null;
  onmessage: Socket['onmessage'] = null;
  onclose: Socket['onclose'] = null;
  onerror: Socket['onerror'] = null;
  readonly #abort: () => void;
  #stream: Duplex | undefined;
  #in: Buffer[] = []; // of a frame that is not complete
  #have = 0; // bytes of it
  #need = 2; // bytes before it is looked at again
  #parts: Buffer[] = []; // of a message that is not complete
  #size = 0;
  #within = false; // a message
  #closed = false;

  constructor(url: string, protocols: string[]) {
    const u = new URL(url);
    const secure = u.protocol === 'wss:';
    u.protocol = secure ? 'https:' : 'http:';
    const key = randomBytes(16).toString('base64');
    const r = (secure ? requestHttps : requestHttp)(u, {
      agent: false,
      headers: {
        Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Version': '13', 'Sec-WebSocket-Key': key,
        'Sec-WebSocket-Protocol': protocols.join(', '),
      },
    });
    this.#abort = () => r.destroy();
    r.on('response', (res) => {
      res.resume();
      this.#end(1006, `HTTP status ${res.statusCode} where a WebSocket was hoped for`);
    });
    r.on('error', (e) => this.#end(1006, e.message));
    r.on('upgrade', (res, stream, head) => {
      // "the client MUST Fail the WebSocket Connection" RFC 6455 section 4.1
      const accept = createHash('sha1').update(key + guid).digest('base64');
      const protocol = res.headers['sec-websocket-protocol'];
      const good = res.headers['sec-websocket-accept'] === accept && (protocol === undefined || protocols.includes(protocol));
      if (!good || this.#closed) {
        stream.destroy();
        return this.#end(1006, 'not a WebSocket at the other end');
      }
      this.#stream = stream;
      if ('setNoDelay' in stream) (stream.setNoDelay as (b: boolean) => void).call(stream, true);
      stream.on('data', (b: Buffer) => this.#data(b));
      stream.on('error', (e) => this.#end(1006, e.message));
      stream.on('end', () => stream.destroy());
      stream.on('close', () => this.#end(1006, ''));
      this.onopen?.();
      if (head.length > 0) this.#data(head);
    });
    r.end();
  }

  send(data: Uint8Array): void {
    this.#write(binary, data);
  }

  close(): void {
    if (this.#closed) return;
    if (this.#stream) {
      this.#write(close, Buffer.from([1000 >> 8, 1000 & 0xff]));
      this.#leave(this.#stream);
    }
    this.#end(1000, '');
  }

  // "a client MUST mask all frames that it sends" RFC 6455 section 5.1
  #write(opcode: number, data: Uint8Array): void {
    if (this.#closed || !this.#stream) return;
    const n = data.length;
    const head = n < 126 ? 2 : n < 1 << 16 ? 4 : 10;
    const b = Buffer.allocUnsafe(head + 4 + n);
    b[0] = 0x80 | opcode;
    b[1] = 0x80 | (head === 2 ? n : head === 4 ? 126 : 127);
    if (head === 4) b.writeUInt16BE(n, 2);
    if (head === 10) b.writeBigUInt64BE(BigInt(n), 2);
    const mask = randomBytes(4);
    mask.copy(b, head);
    for (let i = 0; i < n; i++) b[head + 4 + i] = data[i]! ^ mask[i & 3]!;
    this.#stream.write(b);
  }

  #data(b: Buffer): void {
    this.#in.push(b);
    this.#have += b.length;
    while (!this.#closed && this.#have >= this.#need) {
      const p = this.#in.length === 1 ? this.#in[0]! : Buffer.concat(this.#in);
      this.#in = [p];
      const short = p[1]! & 0x7f;
      const head = short < 126 ? 2 : short === 126 ? 4 : 10;
      if (p.length < head) {
        this.#need = head;
        return;
      }
      const n = short < 126 ? short : short === 126 ? p.readUInt16BE(2) : Number(p.readBigUInt64BE(2));
      const [opcode, last] = [p[0]! & 0x0f, (p[0]! & 0x80) !== 0];
      // "A server MUST NOT mask any frames" section 5.1; no extension was asked for.
      if (p[1]! & 0x80 || p[0]! & 0x70 || n + this.#size > mostBytes) return this.#fail('a frame that may not be');
      // "All control frames MUST have a payload length of 125 bytes or less and MUST NOT be fragmented" section 5.5
      if (opcode >= close && (n > 125 || !last)) return this.#fail('a frame that may not be');
      this.#need = head + n;
      if (p.length < this.#need) return;
      this.#in = [p.subarray(this.#need)];
      this.#have -= this.#need;
      this.#need = 2;
      this.#frame(opcode, last, p.subarray(head, head + n));
    }
  }

  #frame(opcode: number, last: boolean, p: Buffer): void {
    switch (opcode) {
      case binary:
      case continuation:
        if ((opcode === continuation) !== this.#within) return this.#fail('a message within a message');
        this.#within = !last;
        if (p.length > 0) this.#parts.push(p);
        this.#size += p.length;
        if (last) {
          const all = Buffer.concat(this.#parts);
          this.#parts = [];
          this.#size = 0;
          this.onmessage?.({ data: all.buffer.slice(all.byteOffset, all.byteOffset + all.length) });
        }
        return;
      case ping:
        return this.#write(pong, p);
      case pong:
        return;
      case close:
        this.#write(close, p.subarray(0, 2));
        if (this.#stream) this.#leave(this.#stream);
        return this.#end(p.length >= 2 ? p.readUInt16BE(0) : 1005, p.subarray(2).toString());
      default:
        return this.#fail('a message that is not binary');
    }
  }

  /** Waits for the other end to close, but not for ever. */
  #leave(stream: Duplex): void {
    stream.end();
    setTimeout(() => stream.destroy(), goodbyeTime).unref();
  }

  #fail(why: string): void {
    this.#stream?.destroy();
    this.#end(1006, why);
  }

  #end(code: number, reason: string): void {
    if (this.#closed) return;
    this.#closed = true;
    if (!this.#stream) this.#abort();
    queueMicrotask(() => this.onclose?.({ code, reason }));
  }
}
