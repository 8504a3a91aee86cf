import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  addressKind,
  decideName,
  mayDial,
  normaliseName,
  parseEgressEntry,
  parseIpv4,
  parseIpv6,
} from '../../../domain/egress/rules.ts';

const octet = fc.integer({ min: 0, max: 255 });
const group = fc.integer({ min: 0, max: 0xffff });
const dotted = (bytes: readonly number[]) => bytes.join('.');
const mapped = (bytes: readonly number[]) => `::ffff:${dotted(bytes)}`;

describe('names', () => {
  it.each([
    ['Packages.Example.COM.', 'packages.example.com'],
    ['localhost', 'localhost'],
    ['a_b.example', 'a_b.example'],
    ['xn--bcher-kva.example', 'xn--bcher-kva.example'],
  ])('%s is a name', (name, normal) => expect(normaliseName(name)).toBe(normal));

  it.each([
    '',
    '.',
    'a..b',
    '-a.b',
    'a-.b',
    'a b',
    'a/b',
    'a:1',
    '*.a.b',
    '[::1]',
    '::1',
    '127.0.0.1',
    '127.1',
    '2130706433',
    '0x7f.1',
    '0x7f000001',
    '0',
    'a.1',
    'a.0x1',
    'ä.example',
    'a\0.b',
    `${'a'.repeat(64)}.b`,
    `${'a.'.repeat(127)}bc`,
  ])('%j is none', (name) => expect(normaliseName(name)).toBeUndefined());

  it('no text that Node takes for an address is a name', () => {
    fc.assert(fc.property(fc.oneof(fc.ipV4(), fc.ipV6()), (address) => normaliseName(address) === undefined));
  });
});

describe('entries', () => {
  it.each([
    ['a.example:443', { host: 'a.example', wildcard: false, port: 443 }],
    ['*.example:80', { host: 'example', wildcard: true, port: 80 }],
  ])('%s', (text, entry) => expect(parseEgressEntry(text)).toEqual(entry));

  it.each([
    'a.example',
    'a.example:0',
    'a.example:65536',
    'a.example:x',
    '*:443',
    '**.a:1',
    'a.*.b:1',
    '10.0.0.1:443',
    ':1',
  ])('%s is refused', (text) => expect(parseEgressEntry(text)).toBeUndefined());

  it('never throws, whatever the text', () => {
    fc.assert(fc.property(fc.string({ unit: 'binary' }), (text) => void parseEgressEntry(text)));
  });
});

describe('decision on a name', () => {
  const policy = {
    allow: ['a.example:443', '*.wide.example:443', 'in.corp:8080', '*.corp:443'],
    privateAllowed: ['in.corp:8080', '*.corp:443'],
  };
  const decide = (name: string, port: number) => decideName(policy, { name, port });

  it('denies by default', () => {
    fc.assert(
      fc.property(fc.domain(), fc.integer({ min: 1, max: 65_535 }), (name, port) => {
        expect(decideName({ allow: [], privateAllowed: [`${name}:${port}`] }, { name, port }).allow).toBe(false);
      }),
    );
  });

  it('needs name and port', () => {
    expect(decide('A.example.', 443)).toEqual({ allow: true, name: 'a.example', privateAllowed: false });
    expect(decide('a.example', 80).allow).toBe(false);
    expect(decide('b.a.example', 443).allow).toBe(false);
    expect(decide('evila.example', 443).allow).toBe(false);
  });

  it('a wildcard stands for names below the domain, not for the domain, not for a mere suffix', () => {
    expect(decide('x.wide.example', 443).allow).toBe(true);
    expect(decide('x.y.wide.example', 443).allow).toBe(true);
    expect(decide('wide.example', 443).allow).toBe(false);
    expect(decide('notwide.example', 443).allow).toBe(false);
  });

  it('private addresses only for exact entries', () => {
    expect(decide('in.corp', 8080)).toMatchObject({ allow: true, privateAllowed: true });
    expect(decide('x.corp', 443)).toMatchObject({ allow: true, privateAllowed: false });
  });

  it('refuses literal addresses even where an entry seems to name them', () => {
    expect(decideName({ allow: ['127.0.0.1:80'], privateAllowed: [] }, { name: '127.0.0.1', port: 80 }).allow).toBe(
      false,
    );
  });
});

describe('addresses', () => {
  it.each([
    ['0.0.0.0', 'unspecified'],
    ['0.1.2.3', 'unspecified'],
    ['127.0.0.1', 'loopback'],
    ['127.255.0.1', 'loopback'],
    ['10.1.2.3', 'private'],
    ['172.16.0.1', 'private'],
    ['172.31.255.255', 'private'],
    ['192.168.1.1', 'private'],
    ['172.15.0.1', 'public'],
    ['172.32.0.1', 'public'],
    ['100.64.0.1', 'carrier-nat'],
    ['100.127.255.255', 'carrier-nat'],
    ['100.63.0.1', 'public'],
    ['100.128.0.1', 'public'],
    ['169.254.169.254', 'link-local'],
    ['224.0.0.1', 'multicast'],
    ['239.255.255.255', 'multicast'],
    ['255.255.255.255', 'reserved'],
    ['198.18.0.1', 'reserved'],
    ['192.0.0.8', 'reserved'],
    ['203.0.113.80', 'public'],
    ['198.51.100.7', 'public'],
    ['192.0.2.1', 'public'],
    ['8.8.8.8', 'public'],
    ['::', 'unspecified'],
    ['::1', 'loopback'],
    ['fe80::1', 'link-local'],
    ['fec0::1', 'link-local'],
    ['fc00::1', 'private'],
    ['fd12:3456::1', 'private'],
    ['ff02::1', 'multicast'],
    ['2001:db8::1', 'public'],
    ['2606:4700::1111', 'public'],
    ['::ffff:127.0.0.1', 'loopback'],
    ['::ffff:7f00:1', 'loopback'],
    ['::127.0.0.1', 'loopback'],
    ['::ffff:0:10.0.0.1', 'private'],
    ['64:ff9b::169.254.169.254', 'link-local'],
    ['64:ff9b:1::10.0.0.1', 'private'],
    ['64:ff9b:2::1', 'reserved'],
    ['64:ff9b::1:0:0', 'reserved'],
    ['2002:7f00:1::', 'loopback'],
    ['2001::1', 'reserved'],
    ['2001:2::1', 'reserved'],
    ['2001:1ff:ffff::1', 'reserved'],
    ['2001:200::1', 'public'],
    ['192.88.99.1', 'reserved'],
    ['168.63.129.16', 'metadata'],
    ['168.63.129.17', 'public'],
    ['100.100.100.200', 'metadata'],
    ['::ffff:168.63.129.16', 'metadata'],
    ['fd00:ec2::254', 'metadata'],
    ['fd20:ce::254', 'metadata'],
    ['fd00:ec2::255', 'private'],
    ['4000::1', 'reserved'],
    ['fe80::1%eth0', 'invalid'],
    ['', 'invalid'],
    ['1.2.3', 'invalid'],
    ['01.2.3.4', 'invalid'],
    ['1.2.3.256', 'invalid'],
    ['1::2::3', 'invalid'],
    [':1', 'invalid'],
    ['1:2:3:4:5:6:7', 'invalid'],
    ['1:2:3:4:5:6:7:8:9', 'invalid'],
    ['::12345', 'invalid'],
  ])('%s is %s', (text, kind) => expect(addressKind(text)).toBe(kind));

  it('every IPv4 address is judged alike in every IPv6 form that leads to it', () => {
    fc.assert(
      fc.property(fc.tuple(octet, octet, octet, octet), (bytes) => {
        const [a, b, c, d] = bytes;
        const plain = addressKind(dotted(bytes));
        const hex = `${(a * 256 + b).toString(16)}:${(c * 256 + d).toString(16)}`;
        expect(addressKind(mapped(bytes))).toBe(plain);
        expect(addressKind(`::ffff:${hex}`)).toBe(plain);
        expect(addressKind(`64:ff9b::${hex}`)).toBe(plain);
        expect(addressKind(`2002:${hex}::`)).toBe(plain);
      }),
    );
  });

  it('reads every form that the generator knows, and nothing makes it throw', () => {
    fc.assert(fc.property(fc.ipV6(), (text) => parseIpv6(text)?.length === 8));
    fc.assert(fc.property(fc.ipV4(), (text) => parseIpv4(text)?.length === 4));
    fc.assert(fc.property(fc.string(), (text) => void addressKind(text)));
    fc.assert(
      fc.property(fc.array(group, { minLength: 8, maxLength: 8 }), (groups) => {
        expect(parseIpv6(groups.map((value) => value.toString(16)).join(':'))).toEqual(groups);
      }),
    );
  });

  it('private is dialled only for entries named as private, link-local and multicast never', () => {
    expect(mayDial('203.0.113.80', false)).toBe(true);
    expect(mayDial('10.0.0.1', false)).toBe(false);
    expect(mayDial('10.0.0.1', true)).toBe(true);
    expect(mayDial('fd00::1', true)).toBe(true);
    expect(mayDial('127.0.0.1', false)).toBe(false);
    for (const never of ['169.254.169.254', '::ffff:169.254.169.254', '224.0.0.1', '0.0.0.0', '::', 'nonsense']) {
      expect(mayDial(never, true)).toBe(false);
    }
    for (const metadata of ['168.63.129.16', '100.100.100.200', 'fd00:ec2::254', 'fd20:ce::254']) {
      expect(mayDial(metadata, true)).toBe(false);
    }
  });
});
