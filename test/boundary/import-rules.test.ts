import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, join, relative } from 'node:path';
import { cruise, type ICruiseOptions, type IForbiddenRuleType } from 'dependency-cruiser';
import extractTsConfig from 'dependency-cruiser/config-utl/extract-ts-config';
import { describe, expect, it } from 'vitest';

const ROOT = join(import.meta.dirname, '../..');
const FIXTURES = join(import.meta.dirname, 'fixtures');

interface CruiserConfig {
  readonly forbidden: readonly (IForbiddenRuleType & { readonly name: string })[];
  readonly options: ICruiseOptions;
}

const config: CruiserConfig = createRequire(import.meta.url)('../../.dependency-cruiser.cjs');
const rules = config.forbidden.map((rule) => rule.name);

/** @returns `rule file` for every import below `baseDir` that breaks a rule, sorted. */
async function violations(baseDir: string, folders: string[]): Promise<string[]> {
  const { tsConfig: _, ...options } = config.options;
  const { output } = await cruise(
    folders,
    { ...options, baseDir, ruleSet: { forbidden: [...config.forbidden] }, validate: true },
    {},
    { tsConfig: extractTsConfig(join(ROOT, 'tsconfig.json')) },
  );
  if (typeof output === 'string') throw new Error(`dependency-cruiser answered with a text: ${output}`);
  return [...new Set(output.summary.violations.map(({ rule, from }) => `${rule.name} ${from}`))].sort();
}

function filesBelow(directory: string): string[] {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(directory, join(entry.parentPath, entry.name)));
}

const foldersIn = (directory: string): string[] =>
  readdirSync(directory, { withFileTypes: true }).flatMap((entry) => (entry.isDirectory() ? [entry.name] : []));

function offendersOf(rule: string): string[] {
  return filesBelow(join(FIXTURES, rule)).filter((file) => basename(file).startsWith('offender-'));
}

describe('import rules', () => {
  it('have a fixture each, and no fixture is left without its rule', () => {
    expect(foldersIn(FIXTURES).sort()).toEqual([...rules, 'allowed'].sort());
  });

  it.each(rules)('%s fires on each of its offenders and on nothing else', async (rule) => {
    const offenders = offendersOf(rule);
    expect(offenders).not.toEqual([]);
    const directory = join(FIXTURES, rule);
    expect(await violations(directory, foldersIn(directory))).toEqual(
      offenders.map((file) => `${rule} ${file}`).sort(),
    );
  });

  it('let through what the table allows', async () => {
    const directory = join(FIXTURES, 'allowed');
    expect(await violations(directory, foldersIn(directory))).toEqual([]);
  });

  it('hold for this repository, with every source folder in the check', async () => {
    const { scripts } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
    const checked = String(scripts['check:boundaries']).split(' ').slice(3);
    const ruled = rules.flatMap((rule) => (rule.endsWith('-values') ? [rule.replace('-values', '')] : []));
    expect(checked.sort()).toEqual(ruled.filter((folder) => folder !== 'test-support').sort());
    expect(await violations(ROOT, checked)).toEqual([]);
  });
});
