/**
 * No regular expression of the product may take more than linear time for any text, because sooner or later it meets a
 * stranger's text. `recheck` judges them in JavaScript (vitest.config.ts), which needs no network and no other program.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { checkSync } from 'recheck';
import ts from 'typescript';
import { afterAll, describe, expect, it } from 'vitest';
import { ROOT, repositoryFiles, textOf } from './repository-files.ts';
import { SafeExpressions } from './safe-expressions.ts';

/** Time limit to judge one expression; an expression that needs more must be written differently. */
const JUDGE_MS = 100_000;
const CODE = /\.(ts|mts|mjs|cjs|js)$/;

interface Found {
  readonly place: string;
  /** Its source text; undefined: it is only built when the program runs. */
  readonly literal: string | undefined;
}

/** @returns every regular expression of a program: literals, and those built at run time. */
function regularExpressionsIn(file: string, text: string): Found[] {
  const source = ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true);
  const found: Found[] = [];
  const visit = (node: ts.Node): void => {
    const place = `${file}:${source.getLineAndCharacterOfPosition(node.getStart(source)).line + 1}`;
    if (ts.isRegularExpressionLiteral(node)) found.push({ place, literal: node.text });
    const isMade = ts.isNewExpression(node) || ts.isCallExpression(node);
    if (isMade && node.expression.getText(source) === 'RegExp') found.push({ place, literal: undefined });
    ts.forEachChild(node, visit);
  };
  visit(source);
  return found;
}

/** @returns `safe`, or the problem of a regular expression literal. */
function verdictOn(literal: string): string {
  const end = literal.lastIndexOf('/');
  const verdict = checkSync(literal.slice(1, end), literal.slice(end + 1), { timeout: JUDGE_MS });
  if (verdict.status === 'safe') return 'safe';
  if (verdict.status === 'unknown') return `not judged: ${verdict.error.kind}`;
  return `${verdict.complexity.summary}, e.g. ${verdict.attack.pattern}`;
}

const { version } = createRequire(import.meta.url)('recheck/package.json');
const judged = new SafeExpressions(join(ROOT, 'node_modules', '.kiln-safe-expressions.json'), `recheck ${version}`);
afterAll(() => judged.keep());

const product = repositoryFiles().filter((file) => CODE.test(file) && !file.startsWith('test/'));
const all = product.flatMap((file) => regularExpressionsIn(file, textOf(file)));
const byLiteral = Map.groupBy(all, ({ literal }) => literal ?? '');

describe('regular expressions', () => {
  it('are found however they are made', () => {
    const text = "const a = /x/;\nfor (const b of c.match(/y/gu) ?? []);\nnew RegExp(a + 'z');\nRegExp(a);\nd / e / f;";
    expect(regularExpressionsIn('sample.ts', text)).toEqual([
      { place: 'sample.ts:1', literal: '/x/' },
      { place: 'sample.ts:2', literal: '/y/gu' },
      { place: 'sample.ts:3', literal: undefined },
      { place: 'sample.ts:4', literal: undefined },
    ]);
  });

  it.each([
    // Once used to parse the start command of a service: 40 options kept a host busy for hours.
    [String.raw`/^\s*node(?:\s+--?[\w-]+(?:=[^\s"'$\`;&|<>]*)?)*\s+(?:'([^'\\]+)'|([\w@.\/+-]+))\s*$/`, 'exponential'],
    ['/^(a|a)*$/', 'exponential'],
    [String.raw`/\/+$/`, '2nd degree polynomial'],
    ['/^(x.*|.*y.*)z$/', '2nd degree polynomial'],
  ])('%s is caught', (literal, complexity) => {
    expect(verdictOn(literal)).toContain(complexity);
  });

  it('are written out, so that they can be judged', () => {
    expect(all).not.toEqual([]);
    expect(all.filter(({ literal }) => literal === undefined).map(({ place }) => place)).toEqual([]);
  });

  it('are judged again after a change, by another judge, and until they are safe', () => {
    const directory = mkdtempSync(join(tmpdir(), 'kiln-judged-'));
    const path = join(directory, 'kept.json');
    const asked: string[] = [];
    const ask = (literal: string) => {
      asked.push(literal);
      return literal === '/bad/' ? 'exponential' : 'safe';
    };
    const run = (judge: string, ...literals: string[]) => {
      const kept = new SafeExpressions(path, judge);
      const verdicts = literals.map((literal) => kept.verdictOn(literal, ask));
      kept.keep();
      return [verdicts, asked.splice(0)];
    };
    expect(run('one', '/a/', '/bad/')).toEqual([
      ['safe', 'exponential'],
      ['/a/', '/bad/'],
    ]);
    expect(run('one', '/a/', '/bad/', '/b/')).toEqual([
      ['safe', 'exponential', 'safe'],
      ['/bad/', '/b/'],
    ]);
    expect(run('one', '/a/')).toEqual([['safe'], []]);
    expect(run('two', '/a/')).toEqual([['safe'], ['/a/']]);
    rmSync(directory, { recursive: true });
  });

  it.each([...byLiteral].filter(([literal]) => literal !== ''))('%s takes linear time', (literal, places) => {
    expect(judged.verdictOn(literal, verdictOn), places.map(({ place }) => place).join(', ')).toBe('safe');
  });
});
