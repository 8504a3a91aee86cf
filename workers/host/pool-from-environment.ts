import { basename, dirname, resolve } from 'node:path';
import type { KilnEnvironment } from '../../config/environment.ts';
import { type PoolConfig, poolConfigSchema, poolLimits } from '../../contracts/api/pool.ts';
import { defined } from '../../domain/defined.ts';
import { KilnError } from '../../domain/failures.ts';
import { resolvePoolSettings } from '../../domain/pool/pool-policy.ts';
import type { HostSettings } from '../../host/host-settings.ts';
import { readConfigFile } from '../../inspection/folders/config-file.ts';

const MAX_FILE_BYTES = 64 * 1024;

/**
 * @returns this host's pools: those of the file, whose size the environment may change; none without either
 * @throws CONFIG_INVALID where the file is missing, wrong, or contradicts itself
 */
export async function poolFromEnvironment(
  env: Pick<KilnEnvironment, 'KILN_POOL_SIZE' | 'KILN_POOL_FILE'>,
): Promise<Pick<HostSettings['pool'], 'limits' | 'warm'>> {
  const { KILN_POOL_SIZE: size, KILN_POOL_FILE: path } = env;
  if (size === undefined && path === undefined) return { limits: { pool_size: 0 }, warm: [] };
  const config = path === undefined ? poolConfigSchema.parse({}) : await readPoolFile(resolve(path));
  const limits = { ...poolLimits(config), ...defined({ pool_size: size }) };
  resolvePoolSettings(limits);
  return { limits, warm: config.warm };
}

async function readPoolFile(path: string): Promise<PoolConfig> {
  const found = await readConfigFile(dirname(path), basename(path), poolConfigSchema, MAX_FILE_BYTES);
  if (found === undefined) throw new KilnError('CONFIG_INVALID', `KILN_POOL_FILE: there is no file ${path}.`, { path });
  return found.value;
}
