import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { egressEntryOf, serviceConfigSchema } from '../../contracts/service/service-manifest.ts';
import { decideName, parseEgressEntry } from '../../domain/egress/rules.ts';
import { needsOf } from '../../domain/workload/workload.ts';

const allow = (entries: unknown) => serviceConfigSchema.safeParse({ egress: { allow: entries } });

describe('egress.allow', () => {
  it.each(['api.example.com', '*.example.com', 'api.example.com:80', '*.example.com:443', 'localhost', 'db.corp:5432'])(
    '%s',
    (text) => {
      expect(allow([text]).success).toBe(true);
      expect(parseEgressEntry(egressEntryOf(text))).toBeDefined();
    },
  );

  it.each([
    '',
    '*',
    '*.*',
    'https://api.example.com',
    'api.example.com/path',
    '*.example.com:8080',
    'api.example.com:0',
    'a b',
    '10.0.0.1',
    '127.1:80',
    '[::1]:443',
    'api.*.com',
  ])('%j is refused, by name', (text) => {
    const { success, error } = allow([text]);
    expect(success).toBe(false);
    expect(error?.issues[0]?.path).toEqual(['egress', 'allow', 0]);
  });

  it('what is accepted allows exactly its name and port', () => {
    const name = fc.stringMatching(/^[a-z]{1,8}(\.[a-z]{1,8}){1,3}$/);
    fc.assert(
      fc.property(name, name, fc.constantFrom('', ':80', ':443'), (own, other, port) => {
        const parsed = serviceConfigSchema.parse({ egress: { allow: [`${own}${port}`] } });
        const policy = { allow: (parsed.egress?.allow ?? []).map(egressEntryOf), privateAllowed: [] };
        const asked = port === ':80' ? 80 : 443;
        expect(decideName(policy, { name: own, port: asked }).allow).toBe(true);
        expect(decideName(policy, { name: own, port: asked === 80 ? 443 : 80 }).allow).toBe(false);
        expect(decideName(policy, { name: other, port: asked }).allow).toBe(other === own);
        expect(decideName(policy, { name: `x.${own}`, port: asked }).allow).toBe(false);
      }),
    );
  });
});

describe('what a service needs', () => {
  it('is said by the request, then the manifest, then the defaults', () => {
    expect(needsOf({})).toEqual({ image: 'node', resources: { vcpus: 1, memMib: 512 } });
    const python = { language: 'python', resources: { memMib: 1024, vcpus: 2 } } as const;
    expect(needsOf({}, python)).toEqual({ image: 'python', resources: { vcpus: 2, memMib: 1024 } });
    expect(needsOf({ image: 'own:1', resources: { memMib: 256 } }, python)).toEqual({
      image: 'own:1',
      resources: { vcpus: 2, memMib: 256 },
    });
    expect(needsOf({}, { language: 'none', resources: {} }).image).toBe('base');
  });
});

describe('docs/kiln.schema.json', () => {
  it('is the schema that kiln.json is read with (`vitest -u` writes it anew)', async () => {
    const path = fileURLToPath(new URL('../../docs/kiln.schema.json', import.meta.url));
    const schema = z.toJSONSchema(serviceConfigSchema, { io: 'input' });
    await expect(`${JSON.stringify({ title: 'kiln.json', ...schema }, null, 2)}\n`).toMatchFileSnapshot(path);
    expect(JSON.parse(await readFile(path, 'utf8'))).toMatchObject({ additionalProperties: false });
  });
});
