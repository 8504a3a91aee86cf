import { join } from 'node:path';
import { bundleWorkflowCode, DefaultLogger } from '@temporalio/worker';
import { describe, expect, it } from 'vitest';
import * as exported from '../../workflows/index.ts';
import { ROOT } from './repository-files.ts';

/** Bundles like a worker. @returns the code and the messages of webpack */
async function bundle(workflowsPath: string): Promise<{ code?: string; messages: string }> {
  const messages: string[] = [];
  const logger = new DefaultLogger('WARN', ({ message }) => messages.push(message));
  const bundled = await bundleWorkflowCode({ workflowsPath, logger }).catch(() => undefined);
  return { ...(bundled && { code: bundled.code }), messages: messages.join('\n') };
}

describe('workflows/', () => {
  it('bundles for the sandbox, with every workflow in it', async () => {
    const { code, messages } = await bundle(join(ROOT, 'workflows/index.ts'));
    expect(messages).toBe('');
    expect(Object.keys(exported)).toContain('workloadWorkflow');
    for (const name of Object.keys(exported)) expect(code).toContain(name);
  });

  it('would not bundle with a module that the sandbox forbids', async () => {
    const fixture = join(import.meta.dirname, 'fixtures/workflows-values/workflows/offender-node.ts');
    const { code, messages } = await bundle(fixture);
    expect(code).toBeUndefined();
    expect(messages).toContain('node:crypto');
  });
});
