// DEFLATE (RFC 1951), the way there, by the platform where it can. Only the
// body of a message is deflated, each by itself: its length tells nothing of
// what somebody else wrote, and headers, addresses and tokens stay as they are.

import { maxDeflate, maxRatio, minDeflate } from './codec/inflate.js';

/** Deflates bytes, with no header. */
export type Deflate = (data: Uint8Array) => Promise<Uint8Array>;

/** What the platform has; undefined where it has nothing, and bodies go as they are. */
export function platformDeflate(): Deflate | undefined {
  try {
    new CompressionStream('deflate-raw'); // which some have only for gzip
  } catch {
    return undefined;
  }
  return async (data) => {
    const packed = new Blob([data as BlobPart]).stream().pipeThrough(new CompressionStream('deflate-raw'));
    return new Uint8Array(await new Response(packed).arrayBuffer());
  };
}

/** Whether a body of that media type is worth trying: others are compressed already, as a rule. */
export function worthDeflating(data: Uint8Array, media: string): boolean {
  if (data.length < minDeflate || data.length > maxDeflate) return false;
  const t = media.split(';')[0]!.trim().toLowerCase();
  return t === '' || /^text\/|^application\/(json|xml)$|\+(json|xml)$/.test(t);
}

/** Whether it paid: at least an eighth is gained, within what the other side takes. */
export function pays(data: Uint8Array, packed: Uint8Array): boolean {
  return packed.length <= data.length - Math.floor(data.length / 8) && data.length <= packed.length * maxRatio;
}
