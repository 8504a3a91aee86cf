/** Compares the rules on addresses with two other implementations: Node's own, and ipaddr.js. */
import { BlockList, isIPv4, isIPv6 } from 'node:net';
import fc from 'fast-check';
import ipaddr from 'ipaddr.js';
import { describe, expect, it } from 'vitest';
import { addressKind, mayDial, parseIpv4, parseIpv6 } from '../../../domain/egress/rules.ts';

/** Networks that are not on the public internet, by the special-purpose address registries (RFC 6890 and later). */
const NOT_PUBLIC_IPV4 = [
  ...['0.0.0.0/8', '10.0.0.0/8', '100.64.0.0/10', '127.0.0.0/8', '169.254.0.0/16', '172.16.0.0/12', '192.0.0.0/24'],
  ...['192.88.99.0/24', '192.168.0.0/16', '198.18.0.0/15', '224.0.0.0/4', '240.0.0.0/4'],
  ...['168.63.129.16/32', '100.100.100.200/32'],
];
/** Everything outside 2000::/3, and 2001::/23. Addresses that embed an IPv4 address have a test of their own. */
const NOT_PUBLIC_IPV6 = ['::/3', '4000::/2', '8000::/1', '2001::/23'];
const LEADS_TO_IPV4 = ['::/96', '::ffff:0:0/96', '::ffff:0:0:0/96', '64:ff9b::/96', '2002::/16'];

/** One list per family: a list with IPv6 networks also matches IPv4 addresses, as part of `::ffff:0:0/96`. */
function blockList(networks: readonly string[], family: 'ipv4' | 'ipv6'): BlockList {
  const list = new BlockList();
  for (const cidr of networks) {
    const [network, prefix] = ipaddr.parseCIDR(cidr);
    list.addSubnet(network.toString(), prefix, family);
  }
  return list;
}

const notPublicIpv4 = blockList(NOT_PUBLIC_IPV4, 'ipv4');
const notPublicIpv6 = blockList(NOT_PUBLIC_IPV6, 'ipv6');
const leadsToIpv4 = blockList(LEADS_TO_IPV4, 'ipv6');
const isIn = (networks: readonly string[], address: ipaddr.IPv4 | ipaddr.IPv6) =>
  networks.some((cidr) => {
    const [network, prefix] = ipaddr.parseCIDR(cidr);
    return network.kind() === address.kind() && address.match(network, prefix);
  });

/** Addresses at the edges of the networks, directly beside them, inside them, and anywhere. */
function addresses(networks: readonly string[], bytes: 4 | 16) {
  const bits = BigInt(bytes * 8);
  const all = (1n << bits) - 1n;
  const numberOf = (address: ipaddr.IPv4 | ipaddr.IPv6) =>
    address.toByteArray().reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
  const near = networks.map((cidr) => {
    const [network, prefix] = ipaddr.parseCIDR(cidr);
    const first = numberOf(network);
    const last = first | (all >> BigInt(prefix));
    const [before, behind] = [first === 0n ? all : first - 1n, (last + 1n) & all];
    return fc.oneof(fc.constantFrom(before, first, last, behind), fc.bigInt({ min: first, max: last }));
  });
  return fc.oneof(...near, fc.bigInt({ min: 0n, max: all })).map((value) => {
    const array = Array.from({ length: bytes }, (_, index) =>
      Number((value >> BigInt(8 * (bytes - 1 - index))) & 255n),
    );
    return ipaddr.fromByteArray(array).toString();
  });
}

const ipv4 = addresses(NOT_PUBLIC_IPV4, 4);
const ipv6 = addresses(
  [...NOT_PUBLIC_IPV6, ...LEADS_TO_IPV4, 'fc00::/7', 'fe80::/10', 'ff00::/8', '2001:db8::/32'],
  16,
);

describe('what may be dialled', () => {
  it('is what no list of addresses for special purposes names, of IPv4', () => {
    fc.assert(
      fc.property(ipv4, (address) => {
        expect(mayDial(address, false)).toBe(!notPublicIpv4.check(address, 'ipv4'));
      }),
      { numRuns: 2000 },
    );
  });

  it('is what no list of addresses for special purposes names, of IPv6', () => {
    fc.assert(
      fc.property(ipv6, (address) => {
        fc.pre(!leadsToIpv4.check(address, 'ipv6'));
        expect(mayDial(address, false)).toBe(!notPublicIpv6.check(address, 'ipv6'));
      }),
      { numRuns: 2000 },
    );
  });
});

/** Names in ipaddr.js for each kind of ours. Its `reserved` includes documentation networks, which we allow to dial. */
const RANGES: Readonly<Record<string, readonly string[]>> = {
  public: ['unicast', 'reserved', 'as112', 'as112v6', 'amt'],
  unspecified: ['unspecified'],
  loopback: ['loopback'],
  private: ['private', 'uniqueLocal', 'rfc6052'],
  'carrier-nat': ['carrierGradeNat'],
  'link-local': ['linkLocal', 'deprecatedSiteLocal'],
  multicast: ['multicast'],
  metadata: ['unicast', 'carrierGradeNat', 'uniqueLocal'],
};
const DOCUMENTATION = ['192.0.2.0/24', '198.51.100.0/24', '203.0.113.0/24', '2001:db8::/32', '3fff::/20'];

describe('the kind of an address', () => {
  it('is what ipaddr.js finds, where both have a word for it', () => {
    fc.assert(
      fc.property(fc.oneof(ipv4, ipv6), (text) => {
        const address = ipaddr.parse(text);
        const range = address.range();
        const kind = addressKind(text);
        // We judge these by the IPv4 address inside; ipaddr.js names the kind of tunnel, or nothing.
        if (isIPv6(text) && leadsToIpv4.check(text, 'ipv6')) return;
        // Our `reserved` is wider: all of 2001::/23, and everything that is not allocated yet.
        if (kind !== 'reserved') expect(RANGES[kind], text).toContain(range);
        if (kind === 'public' && range === 'reserved') expect(isIn(DOCUMENTATION, address), text).toBe(true);
      }),
      { numRuns: 2000 },
    );
  });
});

/** Texts that are addresses, and texts that are almost addresses. */
const nearlyAddress = fc
  .tuple(fc.oneof(fc.ipV4(), fc.ipV6(), ipv6), fc.nat(), fc.nat({ max: 2 }), fc.constantFrom(...':.0f19g '))
  .map(([text, place, cut, put]) => {
    const at = place % (text.length + 1);
    return text.slice(0, at) + put + text.slice(at + cut);
  });

it('a text is an address here exactly where Node takes it for one', () => {
  fc.assert(
    fc.property(fc.oneof(nearlyAddress, ipv4, ipv6, fc.ipV4(), fc.ipV6()), (text) => {
      expect(parseIpv4(text) !== undefined).toBe(isIPv4(text));
      expect(parseIpv6(text) !== undefined).toBe(isIPv6(text));
      const six = parseIpv6(text);
      // ipaddr.js reads the deprecated `::1.2.3.4` as `::ffff:1.2.3.4`.
      if (six !== undefined && !text.includes('.')) expect(six).toEqual(ipaddr.IPv6.parse(text).parts);
    }),
    { numRuns: 3000 },
  );
});
