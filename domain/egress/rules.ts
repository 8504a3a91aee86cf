/**
 * What a guest may reach: rules on names, ports and addresses. Pure, so that tests can cover all of their input. The
 * name is checked before it is resolved, every resolved address afterwards.
 */

/** The ports at which every guest can reach names. */
export const USUAL_EGRESS_PORTS: readonly number[] = [80, 443];
/** The guest's own resolver. */
export const RESOLVER_PORT = 53;

/** In an entry that starts with `*.`, `host` is the domain under which names match. */
export interface EgressEntry {
  readonly host: string;
  readonly wildcard: boolean;
  readonly port: number;
}

export type NameDecision =
  | { readonly allow: true; readonly name: string; readonly privateAllowed: boolean }
  | { readonly allow: false; readonly reason: string };

/** Kind of an address: only `public` ones may be dialled, unless the entry was named as private. */
export type AddressKind =
  | 'public'
  | 'invalid'
  | 'unspecified'
  | 'loopback'
  | 'private'
  | 'carrier-nat'
  | 'link-local'
  | 'metadata'
  | 'multicast'
  | 'reserved';

const MAX_NAME = 253;
const LABEL = /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/;

/**
 * @returns the name in lower case without a trailing dot; undefined where it is not a host name. Literal addresses,
 *   also in the odd forms that resolvers accept (`127.1`, `0x7f.1`, `2130706433`), are not names.
 */
export function normaliseName(name: string): string | undefined {
  const plain = name.toLowerCase().replace(/\.$/, '');
  if (plain.length === 0 || plain.length > MAX_NAME) return undefined;
  const labels = plain.split('.');
  if (!labels.every((label) => LABEL.test(label))) return undefined;
  // No top-level domain is a number, and resolvers read a number at the end as an address.
  const last = labels.at(-1) ?? '';
  return /^(?:\d+|0x[0-9a-f]*)$/.test(last) ? undefined : plain;
}

/** Parses `host:port` or `*.domain:port`. @returns undefined where it is neither */
export function parseEgressEntry(entry: string): EgressEntry | undefined {
  const match = /^(\*\.)?([^:*]+):(\d{1,5})$/.exec(entry);
  if (match === null) return undefined;
  const host = normaliseName(match[2] ?? '');
  const port = Number(match[3]);
  if (host === undefined || port < 1 || port > 65_535) return undefined;
  return { host, wildcard: match[1] !== undefined, port };
}

/**
 * Checks a connection by name and port; only what an entry names is allowed.
 * @param policy invalid entries allow nothing; a wildcard never makes private addresses acceptable
 */
export function decideName(
  policy: { readonly allow: readonly string[]; readonly privateAllowed: readonly string[] },
  request: { readonly name: string; readonly port: number },
): NameDecision {
  const name = normaliseName(request.name);
  if (name === undefined) return { allow: false, reason: 'not a host name' };
  const matches = (entry: string): boolean => {
    const rule = parseEgressEntry(entry);
    if (rule === undefined || rule.port !== request.port) return false;
    return rule.wildcard ? name.endsWith(`.${rule.host}`) : name === rule.host;
  };
  if (!policy.allow.some(matches)) return { allow: false, reason: 'not on the allow-list' };
  const exact = (entry: string) => parseEgressEntry(entry)?.wildcard === false && matches(entry);
  return { allow: true, name, privateAllowed: policy.privateAllowed.some(exact) };
}

/**
 * Checks a resolved address.
 * @param privateAllowed whether the host's own configuration named the entry as private: then private networks and this
 *   machine's loopback are acceptable too, but never link-local, cloud metadata or reserved addresses
 */
export function mayDial(address: string, privateAllowed: boolean): boolean {
  const kind = addressKind(address);
  if (kind === 'public') return true;
  return privateAllowed && (kind === 'private' || kind === 'carrier-nat' || kind === 'loopback');
}

/** @returns the kind of an address; an IPv4 address inside IPv6 is judged as that IPv4 address. */
export function addressKind(text: string): AddressKind {
  const four = parseIpv4(text);
  if (four !== undefined) return kindOfIpv4(four);
  const six = parseIpv6(text);
  return six === undefined ? 'invalid' : kindOfIpv6(six);
}

/**
 * Where clouds give a machine its secrets, besides the link-local 169.254.169.254: addresses of private networks, and
 * one that looks public. No guest may reach them, even where the host's configuration names them as private.
 */
const METADATA_IPV4: readonly string[] = ['168.63.129.16', '100.100.100.200'];
const METADATA_IPV6: readonly string[] = ['fd00:ec2:0:0:0:0:0:254', 'fd20:ce:0:0:0:0:0:254'];

/** Dotted quad, decimal only. @returns four bytes */
export function parseIpv4(text: string): readonly number[] | undefined {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
  if (match === null) return undefined;
  const parts = match.slice(1);
  if (parts.some((part) => part.length > 1 && part.startsWith('0'))) return undefined;
  const bytes = parts.map(Number);
  return bytes.every((byte) => byte <= 255) ? bytes : undefined;
}

/** Any text form of RFC 4291, without a zone. @returns eight groups of 16 bits */
export function parseIpv6(text: string): readonly number[] | undefined {
  const halves = text.split('::');
  if (halves.length > 2 || text.length > 45) return undefined;
  const [head, tail] = halves;
  const left = groupsOf(head ?? '', tail === undefined);
  if (left === undefined) return undefined;
  if (tail === undefined) return left.length === 8 ? left : undefined;
  const right = groupsOf(tail, true);
  if (right === undefined || left.length + right.length > 7) return undefined;
  return [...left, ...Array<number>(8 - left.length - right.length).fill(0), ...right];
}

function groupsOf(text: string, last: boolean): number[] | undefined {
  if (text === '') return [];
  const parts = text.split(':');
  const groups: number[] = [];
  for (const [index, part] of parts.entries()) {
    const four = last && index === parts.length - 1 ? parseIpv4(part) : undefined;
    if (four !== undefined) {
      const [a = 0, b = 0, c = 0, d = 0] = four;
      groups.push(a * 256 + b, c * 256 + d);
    } else if (/^[0-9a-f]{1,4}$/i.test(part)) groups.push(Number.parseInt(part, 16));
    else return undefined;
  }
  return groups;
}

/**
 * The documentation ranges (192.0.2/24, 198.51.100/24, 203.0.113/24) count as public on purpose: some networks serve
 * their package registries from such addresses.
 */
function kindOfIpv4(bytes: readonly number[]): AddressKind {
  const [a = 0, b = 0, c = 0] = bytes;
  if (METADATA_IPV4.includes(bytes.join('.'))) return 'metadata';
  if (a === 0) return 'unspecified';
  if (a === 127) return 'loopback';
  if (a === 10 || (a === 172 && b >= 16 && b <= 31) || (a === 192 && b === 168)) return 'private';
  if (a === 100 && b >= 64 && b <= 127) return 'carrier-nat';
  if (a === 169 && b === 254) return 'link-local';
  // IETF protocol assignments, 6to4 relays and benchmarking: never a host on the internet.
  if (a === 192 && ((b === 0 && c === 0) || (b === 88 && c === 99))) return 'reserved';
  if (a === 198 && (b === 18 || b === 19)) return 'reserved';
  if (a >= 224 && a <= 239) return 'multicast';
  return a >= 240 ? 'reserved' : 'public';
}

function kindOfIpv6(groups: readonly number[]): AddressKind {
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0, g = 0, h = 0] = groups;
  const low = [g >> 8, g & 255, h >> 8, h & 255];
  const zeros = (...values: number[]) => values.every((value) => value === 0);
  if (zeros(a, b, c, d, e)) {
    if (zeros(f, g) && h === 0) return 'unspecified';
    if (zeros(f, g) && h === 1) return 'loopback';
    // v4-mapped, and the deprecated v4-compatible form.
    if (f === 0xffff || f === 0) return kindOfIpv4(low);
  }
  if (zeros(a, b, c, d) && e === 0xffff && f === 0) return kindOfIpv4(low); // v4-translated (SIIT)
  if (a === 0x64 && b === 0xff9b && zeros(c, d, e, f)) return kindOfIpv4(low); // NAT64
  if (a === 0x64 && b === 0xff9b && c === 1) return 'private'; // NAT64 of a local network
  if (a === 0x2002) return kindOfIpv4([b >> 8, b & 255, c >> 8, c & 255]); // 6to4
  // IETF protocol assignments (2001::/23): Teredo, which hides a v4 address, benchmarking, host identifiers (ORCHID).
  if (a === 0x2001 && b < 0x200) return 'reserved';
  if (METADATA_IPV6.includes(groups.map((value) => value.toString(16)).join(':'))) return 'metadata';
  if ((a & 0xfe00) === 0xfc00) return 'private';
  if ((a & 0xffc0) === 0xfe80 || (a & 0xffc0) === 0xfec0) return 'link-local';
  if ((a & 0xff00) === 0xff00) return 'multicast';
  return (a & 0xe000) === 0x2000 ? 'public' : 'reserved';
}
