/** Whether package.json and package-lock.json have the same dependencies; npm would only find out in the build. */
import {
  LOCK_FILE,
  PACKAGE_FILE,
  type PackageLock,
  type PackageManifest,
} from '../../contracts/service/service-manifest.ts';
import { KilnError } from '../../domain/failures.ts';

const FIX = `run \`npm install\` in the service and keep the new ${LOCK_FILE}`;
const GROUPS = ['dependencies', 'devDependencies', 'optionalDependencies'] as const;

/** @throws DEPENDENCY_UNDECLARED, naming up to five packages */
export function assertLockAgrees(manifest: PackageManifest, lock: PackageLock): void {
  const root = lock.packages?.[''];
  const wrong = root === undefined ? notInOldLock(manifest, lock) : differences(manifest, root, lock.packages ?? {});
  if (wrong.length === 0) return;
  const more = wrong.length > 5 ? `; and ${wrong.length - 5} more` : '';
  throw new KilnError(
    'DEPENDENCY_UNDECLARED',
    `${PACKAGE_FILE} and ${LOCK_FILE} disagree: ${wrong.slice(0, 5).join('; ')}${more}. To put it right, ${FIX}.`,
  );
}

function differences(
  manifest: PackageManifest,
  root: NonNullable<PackageLock['packages']>[string],
  packages: NonNullable<PackageLock['packages']>,
): string[] {
  const wanted = allOf(manifest);
  const locked = allOf(root);
  const wrong: string[] = [];
  for (const [name, range] of wanted) {
    const other = locked.get(name);
    if (other === undefined) wrong.push(`${name} is not in ${LOCK_FILE}`);
    else if (other !== range) wrong.push(`${name} is ${range} in ${PACKAGE_FILE} but ${other} in ${LOCK_FILE}`);
    // npm leaves optional packages of other platforms in the lock too, so each declared one has an entry.
    else if (!Object.hasOwn(packages, `node_modules/${name}`)) wrong.push(`${name} has no entry in ${LOCK_FILE}`);
  }
  for (const name of locked.keys()) if (!wanted.has(name)) wrong.push(`${name} is only in ${LOCK_FILE}`);
  return wrong;
}

/** Locks of version 1 name packages, not the requested versions. */
function notInOldLock(manifest: PackageManifest, lock: PackageLock): string[] {
  return [...allOf(manifest).keys()]
    .filter((name) => !Object.hasOwn(lock.dependencies ?? {}, name))
    .map((name) => `${name} is not in ${LOCK_FILE}`);
}

function allOf(
  source: Partial<Record<(typeof GROUPS)[number], Record<string, string> | undefined>>,
): Map<string, string> {
  // As in npm: an optional dependency overrides a plain one of the same name.
  return new Map(GROUPS.flatMap((group) => Object.entries(source[group] ?? {})));
}
