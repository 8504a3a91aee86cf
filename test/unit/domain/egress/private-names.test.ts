/** The operator's KILN_EGRESS_PRIVATE: what is accepted, what is refused and how, and which ports follow from it. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readEnvironment } from '../../../../config/environment.ts';
import { assertReachable, extraEgressPorts, parsePrivateNames } from '../../../../domain/egress/private-names.ts';

describe('KILN_EGRESS_PRIVATE', () => {
  it('is none where it is not set, or empty', () => {
    expect(readEnvironment({}).KILN_EGRESS_PRIVATE).toEqual([]);
    expect(readEnvironment({ KILN_EGRESS_PRIVATE: '' }).KILN_EGRESS_PRIVATE).toEqual([]);
  });

  it('is a list of exact names with ports, each once and written in one way', () => {
    const text = 'Gateway.Corp:443, db.corp:5432,db.corp.:05432,db_1.corp:5433';
    expect(readEnvironment({ KILN_EGRESS_PRIVATE: text }).KILN_EGRESS_PRIVATE).toEqual([
      'gateway.corp:443',
      'db.corp:5432',
      'db_1.corp:5433',
    ]);
  });

  it.each([
    ['db.corp', 'give a host name'],
    ['db.corp:0', 'a port of 1 to 65535'],
    ['db.corp:65536', 'a port of 1 to 65535'],
    ['10.0.0.1:5432', 'no address'],
    ['[::1]:5432', 'no address'],
    ['http://db.corp:80', 'give a host name'],
    ['*.corp:443', 'name each host'],
    ['dns.corp:53', 'another port'],
    ['localhost:5432', '/etc/hosts'],
    ['db.localhost:5432', '/etc/hosts'],
  ])('%s is refused, naming itself and the fix', (entry, fix) => {
    const set = () => readEnvironment({ KILN_EGRESS_PRIVATE: `db.corp:5432,${entry}` });
    expect(set).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
    expect(set).toThrow(`KILN_EGRESS_PRIVATE: "${entry}" is`);
    expect(set).toThrow(fix);
  });

  it('names every bad entry, an empty one too', () => {
    expect(parsePrivateNames('a,db.corp:1,,*.b:2').problems).toHaveLength(3);
  });

  it('is bounded: the guest is told its ports on one line', () => {
    const ports = (count: number) => Array.from({ length: count }, (_, index) => `db.corp:${1000 + index}`).join(',');
    expect(parsePrivateNames(ports(64)).problems).toEqual([]);
    expect(parsePrivateNames(ports(65)).problems).toEqual([
      expect.stringContaining('65 ports besides 80 and 443; at most 64'),
    ]);
    const names = Array.from({ length: 257 }, (_, index) => `n${index}.corp:443`).join(',');
    expect(parsePrivateNames(names).problems).toEqual([expect.stringContaining('257 entries; at most 256')]);
  });

  it('any text is parsed or refused, and what is parsed is parsed to itself', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...'ab.:,*_- 0159') }), (text) => {
        const { entries, problems } = parsePrivateNames(text);
        if (problems.length > 0) return;
        expect(parsePrivateNames(entries.join(','))).toEqual({ entries, problems: [] });
      }),
    );
  });
});

it('guests listen at the ports that they do not have already', () => {
  expect(extraEgressPorts(['a.corp:443', 'b.corp:9000', 'a.corp:80', 'a.corp:8080', 'b.corp:8080'])).toEqual([
    8080, 9000,
  ]);
  expect(extraEgressPorts([])).toEqual([]);
});

describe('an allow-list', () => {
  const names = ['db.corp:5432'];

  it('may name any host at the usual ports, and the setting’s at theirs', () => {
    assertReachable(['api.example:443', '*.example:80', 'db.corp:5432', 'DB.corp.:5432'], names);
    assertReachable([], []);
  });

  it.each(['db.corp:5433', 'api.example:5432', '*.corp:5432', 'x.db.corp:5432', 'db.corp'])(
    'may not name %s',
    (entry) => {
      expect(() => assertReachable(['api.example:443', entry], names)).toThrow(
        expect.objectContaining({ code: 'SPEC_INVALID', message: expect.stringContaining(`"${entry}"`) }),
      );
    },
  );
});
