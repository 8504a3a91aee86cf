/** Packages of a Python service: what Kiln reads of requirements.txt and pyproject.toml; pip reads the rest. */
import { z } from 'zod';

export const REQUIREMENTS_FILE = 'requirements.txt';
export const PYPROJECT_FILE = 'pyproject.toml';

/** A PEP 508 requirement; it must not look like an option of pip. */
const requirement = z
  .string()
  .min(1)
  .max(2048)
  .regex(/^[A-Za-z0-9][^\0\r\n]*$/, 'must be a requirement as PEP 508 has it');

/** What Kiln reads of a pyproject.toml. */
export const pyprojectSchema = z.object({
  project: z
    .object({
      dependencies: z.array(requirement).max(1000).exactOptional(),
      dynamic: z.array(z.string()).exactOptional(),
    })
    .exactOptional(),
  tool: z.looseObject({ poetry: z.unknown() }).partial().exactOptional(),
});

export type Pyproject = z.infer<typeof pyprojectSchema>;

/** The relevant content of a requirements.txt. */
export interface Requirements {
  /** Whether anything is to be installed. */
  readonly installs: boolean;
  /**
   * Whether the same file always installs the same packages: every line is `name==version` with at least one
   * `--hash=sha256:…`. pip then refuses packages that the file does not name.
   */
  readonly locked: boolean;
}

const PINNED = /^[A-Za-z0-9][\w.-]*(?:\[[\w.,\s-]*\])?\s*===?\s*[\w.!+-]+\s*(?:;[^#]*?)?$/;
const HASH = /^--hash=sha(?:256|384|512):[0-9a-f]{64,128}$/;
/** Options that change the origin of packages, not their content: with hashes they are harmless. */
const HARMLESS = /^(?:--require-hashes|--no-binary|--only-binary|--prefer-binary)\b/;

/** Reads a requirements.txt. Never fails: a file that it does not understand counts as not locked. */
export function readRequirements(text: string): Requirements {
  const lines = logicalLines(text);
  const wanted = lines.filter((line) => !HARMLESS.test(line));
  return { installs: wanted.length > 0, locked: wanted.length > 0 && wanted.every(isLocked) };
}

function isLocked(line: string): boolean {
  const words = line.split(/\s/).filter((word) => word !== '');
  const options = words.findIndex((word) => word.startsWith('--'));
  if (options < 1) return false;
  const hashes = words.slice(options).join(' ').replaceAll('--hash ', '--hash=').split(' ');
  return PINNED.test(words.slice(0, options).join(' ')) && hashes.every((word) => HASH.test(word));
}

/** Lines as pip sees them: continued lines joined, comments and blank lines removed. */
function logicalLines(text: string): string[] {
  const joined = text
    .replaceAll('\r\n', '\n')
    .replace(/^\ufeff/, '')
    .replaceAll(/\\\n/g, ' ');
  return joined.split('\n').flatMap((line) => {
    const plain = line.replace(/(?:^|\s)#.*/, '').trim();
    return plain === '' ? [] : [plain];
  });
}
