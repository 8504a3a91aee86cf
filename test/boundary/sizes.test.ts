import { dirname } from 'node:path';
import ts from 'typescript';
import { describe, expect, it } from 'vitest';
import { repositoryFiles, textOf } from './repository-files.ts';

const MAX_FILE_LINES = 400;
const MAX_WORKFLOW_FILE_LINES = 250;
const MAX_FUNCTION_LINES = 60;
/** Share of functions that may be longer: a table written as code is easier to read in one piece. */
const LONGER_FUNCTIONS = 0.02;
/** Half of the functions have at most this many lines; for the next constant it is 95 of 100. */
const MEDIAN_FUNCTION_LINES = 8;
const LONG_FUNCTION_LINES = 25;
const MAX_FOLDER_FILES = 15;
/** Folders that may hold more files at one level, with the reason. */
const LARGE_FOLDERS: Readonly<Record<string, string>> = {
  'test/histories': 'data: one file for each recorded history',
};

const sources = repositoryFiles().filter((file) => /\.(ts|mjs|cjs|go)$/.test(file) && !/\/fixtures\//.test(file));

/** Bodies of `describe` and `it` are lists rather than functions, so test files only have a limit per file. */
const withFunctions = sources.filter((file) => !file.endsWith('.go') && !file.startsWith('test/'));

interface MeasuredFunction {
  readonly name: string;
  readonly lines: number;
}

/** @returns every function of a source text with its number of lines, without the comments before it. */
function functionsIn(file: string, text: string): MeasuredFunction[] {
  const source = ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true);
  const found: MeasuredFunction[] = [];
  const lineOf = (position: number): number => source.getLineAndCharacterOfPosition(position).line;
  const visit = (node: ts.Node): void => {
    if (ts.isFunctionLike(node) && 'body' in node && node.body) {
      const first = lineOf(node.getStart(source));
      found.push({ name: `${file}:${first + 1}`, lines: lineOf(node.end) - first + 1 });
    }
    ts.forEachChild(node, visit);
  };
  visit(source);
  return found;
}

const linesOf = (file: string): number => textOf(file).replace(/\n$/, '').split('\n').length;
const longerThan = (limit: number, files: readonly string[]): string[] =>
  files.flatMap((file) => (linesOf(file) > limit ? [`${file}: ${linesOf(file)} lines`] : []));

/** @returns the folders with more than `limit` files at their own level, and how many they have */
function foldersOver(limit: number, files: readonly string[]): string[] {
  const counts = new Map<string, number>();
  for (const file of files) counts.set(dirname(file), (counts.get(dirname(file)) ?? 0) + 1);
  return [...counts].flatMap(([folder, count]) => (count > limit ? [`${folder}: ${count} files`] : []));
}

describe('sizes', () => {
  it('counts the files of one level of a folder', () => {
    expect(foldersOver(1, ['a/one.ts', 'a/two.ts', 'a/b/three.ts', 'four.ts'])).toEqual(['a: 2 files']);
  });

  it(`keeps folders at ${MAX_FOLDER_FILES} files, but for those with a reason`, () => {
    const large = foldersOver(MAX_FOLDER_FILES, repositoryFiles());
    expect(large.map((line) => line.split(':')[0]).sort()).toEqual(Object.keys(LARGE_FOLDERS).sort());
  });

  it('measures functions of every form', () => {
    const text = [
      '/** Not counted. */',
      'export function declared() {',
      '  return 1;',
      '}',
      'const arrow = () =>',
      '  2;',
      'class Owner {',
      '  constructor() {}',
      '  method() {',
      '    return () => 3;',
      '  }',
      '  declare abstract: () => void;',
      '}',
    ].join('\n');
    expect(functionsIn('sample.ts', text).map(({ name, lines }) => `${name} ${lines}`)).toEqual([
      'sample.ts:2 3',
      'sample.ts:5 2',
      'sample.ts:8 1',
      'sample.ts:9 3',
      'sample.ts:10 1',
    ]);
  });

  it(`keeps files under ${MAX_FILE_LINES} lines`, () => {
    expect(sources).not.toEqual([]);
    expect(longerThan(MAX_FILE_LINES, sources)).toEqual([]);
  });

  it(`keeps workflow files under ${MAX_WORKFLOW_FILE_LINES} lines`, () => {
    const workflows = sources.filter((file) => file.startsWith('workflows/'));
    expect(workflows).not.toEqual([]);
    expect(longerThan(MAX_WORKFLOW_FILE_LINES, workflows)).toEqual([]);
  });

  it('keeps most functions short', () => {
    const lengths = withFunctions.flatMap((file) => functionsIn(file, textOf(file)).map(({ lines }) => lines));
    const sorted = lengths.toSorted((a, b) => a - b);
    const at = (share: number) => sorted[Math.floor(sorted.length * share)];
    expect(at(0.5)).toBeLessThanOrEqual(MEDIAN_FUNCTION_LINES);
    expect(at(0.95)).toBeLessThanOrEqual(LONG_FUNCTION_LINES);
  });

  it(`keeps functions under ${MAX_FUNCTION_LINES} lines, but for ${LONGER_FUNCTIONS * 100} % of them`, () => {
    const functions = withFunctions.flatMap((file) => functionsIn(file, textOf(file)));
    const long = functions.filter(({ lines }) => lines > MAX_FUNCTION_LINES);
    const allowed = Math.floor(functions.length * LONGER_FUNCTIONS);
    const list = long.map(({ name, lines }) => `${name} has ${lines} lines`).join('\n');
    expect(long.length, list).toBeLessThanOrEqual(allowed);
  });
});
