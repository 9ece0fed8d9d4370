// DEFLATE (RFC 1951), the way back. The platform's DecompressionStream would
// give the bytes some time later, and messages must stay in their order; the
// bodies are of 64 KiB at most, which this does at once.

import { malformed } from './bytes.js';

/** The shortest and the longest body that may be deflated, and to what part of its length at least. */
export const minDeflate = 256;
export const maxDeflate = 64 << 10;
export const maxRatio = 32;

/** Checks what a frame says of a deflated body against the bounds. */
export function checkDeflated(size: number, deflated: number): number {
  if (size < minDeflate || size > maxDeflate || size <= deflated || size > deflated * maxRatio) {
    throw malformed(`${size} bytes deflated to ${deflated}`);
  }
  return size;
}

// RFC 1951, section 3.2.5.
const lengthBase = [3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258];
const lengthExtra = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
const distanceBase = [
  1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577,
];
const distanceExtra = [0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13];
// Section 3.2.7: in which order the lengths of the code of code lengths come.
const codeOrder = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/** A Huffman code: how many codes there are of each length, and the symbols in the order of their codes. */
interface Code {
  counts: Uint16Array;
  symbols: Uint16Array;
}

const maxBits = 15;

/** Makes a code of the lengths of its symbols (section 3.2.2). A code of one symbol may be incomplete, no other. */
function makeCode(lengths: ArrayLike<number>): Code {
  const counts = new Uint16Array(maxBits + 1);
  for (let i = 0; i < lengths.length; i++) counts[lengths[i]!]!++;
  const used = lengths.length - counts[0]!;
  counts[0] = 0;
  let left = 1;
  for (let bits = 1; bits <= maxBits; bits++) {
    left = left * 2 - counts[bits]!;
    if (left < 0) throw malformed('too many codes of a length');
  }
  if (left > 0 && !(used === 0 || (used === 1 && counts[1] === 1))) throw malformed('too few codes');
  const at = new Uint16Array(maxBits + 2);
  for (let bits = 1; bits <= maxBits; bits++) at[bits + 1] = at[bits]! + counts[bits]!;
  const symbols = new Uint16Array(used);
  for (let i = 0; i < lengths.length; i++) if (lengths[i]! > 0) symbols[at[lengths[i]!]!++] = i;
  return { counts, symbols };
}

const fixed = {
  literals: makeCode(Array.from({ length: 288 }, (_, i) => (i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8))),
  distances: makeCode(new Uint8Array(32).fill(5)),
};

class Bits {
  readonly #p: Uint8Array;
  #at = 0;
  #bits = 0;
  #n = 0;

  constructor(p: Uint8Array) {
    this.#p = p;
  }

  take(n: number): number {
    while (this.#n < n) {
      if (this.#at === this.#p.length) throw malformed('a deflated body is cut short');
      this.#bits |= this.#p[this.#at++]! << this.#n;
      this.#n += 8;
    }
    const v = this.#bits & ((1 << n) - 1);
    this.#bits >>>= n;
    this.#n -= n;
    return v;
  }

  symbol({ counts, symbols }: Code): number {
    for (let code = 0, first = 0, index = 0, bits = 1; bits <= maxBits; bits++) {
      code |= this.take(1);
      const count = counts[bits]!;
      if (code - count < first) return symbols[index + code - first]!;
      index += count;
      first = (first + count) * 2;
      code *= 2;
    }
    throw malformed('no such code');
  }

  /** A stored block's bytes begin on a boundary. */
  bytes(): Uint8Array {
    this.#bits = this.#n = 0;
    const size = this.take(16);
    if ((this.take(16) ^ size) !== 0xffff) throw malformed('length of a stored block');
    if (this.#at + size > this.#p.length) throw malformed('a deflated body is cut short');
    this.#at += size;
    return this.#p.subarray(this.#at - size, this.#at);
  }

  get ended(): boolean {
    return this.#at === this.#p.length;
  }
}

function readCodes(b: Bits): { literals: Code; distances: Code } {
  const nLiterals = b.take(5) + 257;
  const nDistances = b.take(5) + 1;
  const nCodes = b.take(4) + 4;
  if (nLiterals > 286 || nDistances > 30) throw malformed('too many symbols');
  const lengths = new Uint8Array(19);
  for (let i = 0; i < nCodes; i++) lengths[codeOrder[i]!] = b.take(3);
  const code = makeCode(lengths);
  const all = new Uint8Array(nLiterals + nDistances);
  for (let i = 0; i < all.length; ) {
    const s = b.symbol(code);
    if (s < 16) {
      all[i++] = s;
      continue;
    }
    if (s === 16 && i === 0) throw malformed('nothing to repeat');
    const value = s === 16 ? all[i - 1]! : 0;
    const times = s === 16 ? 3 + b.take(2) : s === 17 ? 3 + b.take(3) : 11 + b.take(7);
    if (i + times > all.length) throw malformed('too many lengths');
    all.fill(value, i, i + times);
    i += times;
  }
  if (all[256] === 0) throw malformed('no end of block');
  return { literals: makeCode(all.subarray(0, nLiterals)), distances: makeCode(all.subarray(nLiterals)) };
}

/** Gives the size bytes that p was made of. Anything else is malformed. */
export function inflate(p: Uint8Array, size: number): Uint8Array {
  const out = new Uint8Array(size);
  let n = 0;
  const room = (more: number) => {
    if (n + more > size) throw malformed(`body inflates to more than ${size} bytes`);
  };
  const b = new Bits(p);
  for (let last = false; !last; ) {
    last = b.take(1) === 1;
    const type = b.take(2);
    if (type === 3) throw malformed('no such block');
    if (type === 0) {
      const bytes = b.bytes();
      room(bytes.length);
      out.set(bytes, n);
      n += bytes.length;
      continue;
    }
    const { literals, distances } = type === 1 ? fixed : readCodes(b);
    for (let s = b.symbol(literals); s !== 256; s = b.symbol(literals)) {
      if (s < 256) {
        room(1);
        out[n++] = s;
        continue;
      }
      if (s > 285) throw malformed('no such length');
      const length = lengthBase[s - 257]! + b.take(lengthExtra[s - 257]!);
      const d = b.symbol(distances);
      if (d > 29) throw malformed('no such distance');
      const distance = distanceBase[d]! + b.take(distanceExtra[d]!);
      if (distance > n) throw malformed('distance too far');
      room(length);
      for (let i = 0; i < length; i++, n++) out[n] = out[n - distance]!;
    }
  }
  if (n !== size || !b.ended) throw malformed(`body does not inflate to ${size} bytes`);
  return out;
}
