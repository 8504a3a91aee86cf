import { inject } from 'vitest';
import type { ProcessStackOptions } from '../workers/process-stack.ts';

/** @returns the servers of this test run, for Kilns whose workers are processes of their own */
export function runServers(): ProcessStackOptions {
  return {
    temporalAddress: inject('temporalAddress'),
    s3: inject('s3'),
    workflowBundle: inject('workflowBundle'),
  };
}
