/** Packages that the caller installs as well; loaded when they are needed. */
import { KilnError } from '../../domain/failures.ts';

const PEERS = ['@temporalio/client', '@temporalio/common', '@temporalio/workflow', '@aws-sdk/client-s3'];

/**
 * Loads a module that imports peer packages.
 * @throws CONFIG_INVALID where one is not installed, with the command that installs them in `details.install`
 */
export async function withPeers<T>(load: () => Promise<T>): Promise<T> {
  try {
    return await load();
  } catch (error) {
    if (!isNotFound(error)) throw error;
    const missing = await missingPeers();
    if (missing.length === 0) throw error;
    const install = `npm install ${missing.join(' ')}`;
    const message = `kiln-client needs packages that are not installed here: ${install}`;
    throw new KilnError('CONFIG_INVALID', message, { missing, install }, error);
  }
}

async function missingPeers(): Promise<string[]> {
  const found = await Promise.all(
    PEERS.map((name) =>
      import(name).then(
        () => [],
        () => [name],
      ),
    ),
  );
  return found.flat();
}

/** `import` and `require` use different codes for a missing package. */
function isNotFound(error: unknown): boolean {
  const code: unknown = error instanceof Error && 'code' in error ? error.code : undefined;
  return code === 'ERR_MODULE_NOT_FOUND' || code === 'MODULE_NOT_FOUND';
}
