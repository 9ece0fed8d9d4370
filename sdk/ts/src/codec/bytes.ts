// Integers are little-endian base 128, as in Protocol Buffers, in their
// shortest form, and at most 2^53-1, which is what a number here holds.

/** The peer broke the protocol. */
export class ProtocolError extends Error {
  override name = 'ProtocolError';
  /** The reason to close with. */
  readonly code: 'protocol' | 'frame-too-long';

  constructor(text: string, code: 'protocol' | 'frame-too-long' = 'protocol') {
    super(text);
    this.code = code;
  }
}

export function malformed(text: string): ProtocolError {
  return new ProtocolError('link: malformed frame: ' + text);
}

export const maxInt = Number.MAX_SAFE_INTEGER;
const maxVarint = 8;

/** 0 -1 1 -2 2 are 0 1 2 3 4. */
export function zigzag(v: number): number {
  return v >= 0 ? v * 2 : -v * 2 - 1;
}

export function unzigzag(u: number): number {
  return u % 2 === 0 ? u / 2 : -(u + 1) / 2;
}

export function uvarintSize(v: number): number {
  let n = 1;
  for (; v >= 0x80; v = Math.floor(v / 0x80)) n++;
  return n;
}

/**
 * Reads an integer that begins at p[at]. A size of zero says that p ends
 * within it.
 */
export function uvarint(p: Uint8Array, at: number): { value: number; size: number } {
  let value = 0;
  for (let i = 0; at + i < p.length; i++) {
    if (i === maxVarint) throw malformed('integer of more than 8 bytes');
    const c = p[at + i]!;
    value += (c & 0x7f) * 2 ** (7 * i);
    if (c < 0x80) {
      if (c === 0 && i > 0) throw malformed('integer not in its shortest form');
      if (value > maxInt) throw malformed('integer over 2^53-1');
      return { value, size: i + 1 };
    }
  }
  if (p.length - at >= maxVarint) throw malformed('integer of more than 8 bytes');
  return { value: 0, size: 0 };
}

const encoder = new TextEncoder();
// A byte order mark is text like any other.
const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

export function utf8(s: string): Uint8Array {
  return encoder.encode(s);
}

/** Appends to bytes that grow. */
export class Writer {
  #b = new Uint8Array(64);
  #n = 0;

  get length(): number {
    return this.#n;
  }

  /** What was written. It is valid until more is written. */
  done(): Uint8Array {
    return this.#b.subarray(0, this.#n);
  }

  #room(n: number): void {
    if (this.#n + n <= this.#b.length) return;
    const b = new Uint8Array(Math.max(this.#b.length * 2, this.#n + n));
    b.set(this.done());
    this.#b = b;
  }

  byte(c: number): void {
    this.#room(1);
    this.#b[this.#n++] = c;
  }

  bytes(p: Uint8Array): void {
    this.#room(p.length);
    this.#b.set(p, this.#n);
    this.#n += p.length;
  }

  uvarint(v: number): void {
    if (!Number.isSafeInteger(v) || v < 0) throw new RangeError(`not an integer of the protocol: ${v}`);
    for (; v >= 0x80; v = Math.floor(v / 0x80)) this.byte((v % 0x80) | 0x80);
    this.byte(v);
  }

  varint(v: number): void {
    this.uvarint(zigzag(v));
  }

  string(s: string): void {
    const p = utf8(s);
    this.uvarint(p.length);
    this.bytes(p);
  }
}

/** Reads a payload. Each method throws when the payload is not what it should be. */
export class Reader {
  readonly #p: Uint8Array;
  #at = 0;

  constructor(p: Uint8Array) {
    this.#p = p;
  }

  get left(): number {
    return this.#p.length - this.#at;
  }

  byte(): number {
    if (this.left === 0) throw malformed('ends too early');
    return this.#p[this.#at++]!;
  }

  uvarint(): number {
    const { value, size } = uvarint(this.#p, this.#at);
    if (size === 0) throw malformed('ends too early');
    this.#at += size;
    return value;
  }

  varint(): number {
    return unzigzag(this.uvarint());
  }

  positive(): number {
    const v = this.uvarint();
    if (v === 0) throw malformed('zero where there may be none');
    return v;
  }

  bytes(n: number): Uint8Array {
    if (n > this.left) throw malformed('ends too early');
    this.#at += n;
    return this.#p.subarray(this.#at - n, this.#at);
  }

  text(n: number): string {
    const p = this.bytes(n);
    try {
      return strict.decode(p);
    } catch {
      throw malformed('text is not UTF-8');
    }
  }

  string(): string {
    return this.text(this.uvarint());
  }

  rest(): Uint8Array {
    return this.bytes(this.left);
  }

  end(): void {
    if (this.left > 0) throw malformed(`${this.left} bytes too many`);
  }
}
