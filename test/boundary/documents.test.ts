import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ROOT, repositoryFiles, textOf } from './repository-files.ts';

/** A path of this repository between backticks, except below folders that git ignores: those may be absent. */
const MENTION =
  /`((?:activities|bench|chaos|cli|client|concurrency|config|contracts|docs|domain|examples|gateway|guest|host|inspection|linux|ports|rootfs|scripts|sources|store|temporal|test|vmm|workers|workflows)\/[\w./-]*)`/g;

/** @returns paths that a document names but that do not exist */
function gone(text: string): string[] {
  return [...text.matchAll(MENTION)].flatMap(([, path = '']) => (existsSync(join(ROOT, path)) ? [] : [path]));
}

describe('documents', () => {
  it('a path that is not there is found', () => {
    expect(gone('see `host/host.ts`, `host/nowhere.ts` and `host/`')).toEqual(['host/nowhere.ts']);
  });

  it('name only paths that are there', () => {
    const documents = repositoryFiles().filter((file) => file.endsWith('.md') && file !== 'CHANGELOG.md');
    expect(documents.flatMap((file) => gone(textOf(file)).map((path) => `${file}: ${path}`))).toEqual([]);
  });
});
