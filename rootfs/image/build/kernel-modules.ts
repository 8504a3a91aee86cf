import { glob, readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { KilnError } from '../../../domain/failures.ts';

/** A module that has to be loaded, in loading order. */
export interface KernelModule {
  readonly name: string;
  readonly path: string;
}

/**
 * Finds modules and what they need in an unpacked kernel package.
 * @param modulesDir `lib/modules/<release>` of the package
 * @param wanted module names; `-` and `_` are the same
 * @returns modules in an order in which each follows all that it depends on; built-in ones are left out
 * @throws CONFIG_INVALID where the kernel has no such module
 */
export async function resolveModules(modulesDir: string, wanted: readonly string[]): Promise<KernelModule[]> {
  const builtIn = new Set((await readFile(join(modulesDir, 'modules.builtin'), 'utf8')).split('\n').map(moduleName));
  const paths = new Map<string, string>();
  for await (const path of glob('kernel/**/*.ko', { cwd: modulesDir }))
    paths.set(moduleName(path), join(modulesDir, path));

  const ordered: KernelModule[] = [];
  const seen = new Set<string>();
  const visit = async (rawName: string): Promise<void> => {
    const name = moduleName(rawName);
    if (seen.has(name) || builtIn.has(name)) return;
    seen.add(name);
    const path = paths.get(name);
    if (path === undefined) {
      throw new KilnError('CONFIG_INVALID', `the kernel has no module ${name}: correct "modules" in the image recipe`, {
        name,
      });
    }
    for (const dependency of dependenciesOf(await readFile(path))) await visit(dependency);
    ordered.push({ name, path });
  };
  for (const name of wanted) await visit(name);
  return ordered;
}

/** @returns the names behind `depends=` in a module's information section. */
export function dependenciesOf(module: Buffer): string[] {
  const marker = Buffer.from('\0depends=');
  const at = module.indexOf(marker);
  if (at < 0) return [];
  const end = module.indexOf(0, at + marker.length);
  const list = module.toString('latin1', at + marker.length, end < 0 ? module.length : end);
  return list.split(',').filter((name) => name !== '');
}

function moduleName(path: string): string {
  return basename(path).replace(/\.ko$/, '').replaceAll('-', '_');
}
