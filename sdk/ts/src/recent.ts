export const most = 64;

/** A table with one more entry, of which those are left that were set last: a device sees many networks. */
export function withRecent<T>(table: Record<string, T> | undefined, name: string, value: T): Record<string, T> {
  const others = Object.entries(table ?? {}).filter(([n]) => n !== name);
  return Object.fromEntries([...others.slice(-(most - 1)), [name, value]]);
}
