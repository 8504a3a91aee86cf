import { describe, expect, it } from 'vitest';
import { ROOT, repositoryFiles, textOf } from './repository-files.ts';

/** The sources of packages are a setting of the machine (npm, Go, apt), so no file may name such a host. */
const PACKAGE_HOSTS = [
  /\bregistry\.[a-z0-9-]+\.[a-z]{2,}/i,
  /\bnpmjs\.(org|com)\b/i,
  /\b(proxy|sum)\.golang\.org\b/i,
  /\bdeb\.debian\.org\b/i,
  /\b(files\.pythonhosted|pypi)\.org\b/i,
  /\b(ghcr|docker|quay)\.io\b/i,
];

/** Paths that exist only on one machine. `dir/work/x`, below another directory, does not count. */
const MACHINE_PATHS = ['work', 'home'].map((folder) => new RegExp(`(?<![\\w.})\\]-])/${folder}/[a-z]`));

const ELF_MAGIC = '\u007fELF';

/** @returns `file: text` for the first match of each pattern in each file of the repository. */
function matches(patterns: readonly RegExp[]): string[] {
  return repositoryFiles().flatMap((file) => {
    const text = textOf(file);
    return patterns.flatMap((pattern) => {
      const found = pattern.exec(text);
      return found ? [`${file}: ${found[0]}`] : [];
    });
  });
}

interface PackageJson {
  readonly dependencies: Readonly<Record<string, string>>;
  readonly optionalDependencies: Readonly<Record<string, string>>;
  readonly devDependencies: Readonly<Record<string, string>>;
}

const packageJson: PackageJson = JSON.parse(textOf('package.json'));
const pins = Object.entries({
  ...packageJson.dependencies,
  ...packageJson.optionalDependencies,
  ...packageJson.devDependencies,
});

describe('the repository', () => {
  it('names no package registry', () => {
    expect(matches(PACKAGE_HOSTS)).toEqual([]);
  });

  it('recognises a registry and a path of one machine', () => {
    const registry = ['registry', 'example', 'org'].join('.');
    expect(PACKAGE_HOSTS.some((pattern) => pattern.test(`"https://${registry}/x"`))).toBe(true);
    const path = ['', 'work', 'x'].join('/');
    expect(MACHINE_PATHS.some((pattern) => pattern.test(`cd ${path}`))).toBe(true);
    expect(MACHINE_PATHS.some((pattern) => pattern.test(`upper${path}`))).toBe(false);
  });

  it('names no path of the machine it was written on', () => {
    expect(matches(MACHINE_PATHS)).toEqual([]);
    const mentions = repositoryFiles().filter((file) => ROOT !== '/' && textOf(file).includes(`${ROOT}/`));
    expect(mentions).toEqual([]);
  });

  it('holds no built program', () => {
    expect(repositoryFiles().filter((file) => textOf(file).startsWith(ELF_MAGIC))).toEqual([]);
  });

  it('has lock files that name packages by version and checksum, not by place', () => {
    const locks = repositoryFiles().filter((file) => file.endsWith('package-lock.json'));
    expect(locks).toContain('package-lock.json');
    expect(locks.filter((file) => textOf(file).includes('"resolved": "http'))).toEqual([]);
  });
});

describe('package.json', () => {
  it('pins every package exactly', () => {
    expect(pins.filter(([, version]) => !/^\d+\.\d+\.\d+(-[\w.]+)?$/.test(version))).toEqual([]);
  });

  it('has one version of Temporal', () => {
    const versions = new Set(pins.flatMap(([name, version]) => (name.startsWith('@temporalio/') ? [version] : [])));
    expect(versions.size).toBe(1);
  });

  it('has one version of Node for all platforms', () => {
    const versions = new Set(pins.flatMap(([name, version]) => (name.startsWith('node-linux-') ? [version] : [])));
    expect(versions.size).toBe(1);
  });
});
