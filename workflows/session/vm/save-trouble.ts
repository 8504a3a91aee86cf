import { defineSearchAttributeKey } from '@temporalio/common';
import { workflowInfo } from '@temporalio/workflow';
import { backoffMs, type SessionPolicies } from '../../../domain/policies.ts';
import { setAttributes } from '../../search-attributes.ts';

const ATTENTION = defineSearchAttributeKey('KilnAttention', 'KEYWORD');
const SAVE_FAILED = 'SAVE_FAILED';

/** Failures that will not pass as long as the workspace stays as it is. */
const LASTING: readonly string[] = ['CONFLICT', 'PAYLOAD_TOO_LARGE', 'UNSUPPORTED'];

/** Saves that fail, as operators are told of them, and when they are tried again. */
export class SaveTrouble {
  private readonly policies: SessionPolicies['save'];
  private needsAttention: boolean;
  /** Failures since a save came into the store. */
  private failures = 0;
  private retryMs = 0;

  constructor(policies: SessionPolicies['save']) {
    this.policies = policies;
    // Attributes go on with the next execution.
    this.needsAttention = workflowInfo().typedSearchAttributes.get(ATTENTION) === SAVE_FAILED;
  }

  /**
   * When what could not be saved is tried again by itself, ms since 1970. What failed in an earlier execution is tried
   * at once.
   */
  get retryAt(): number {
    return this.retryMs;
  }

  /** The next try comes after a pause that grows; of a failure that lasts there is none. */
  failed(code: string): void {
    const { backoffMs: firstMs, maxBackoffMs } = this.policies;
    this.failures += 1;
    const isLasting = LASTING.includes(code);
    this.retryMs = isLasting ? Number.POSITIVE_INFINITY : Date.now() + backoffMs(this.failures, firstMs, maxBackoffMs);
  }

  tell(): void {
    if (this.needsAttention) return;
    this.needsAttention = true;
    setAttributes({ KilnAttention: SAVE_FAILED });
  }

  /** A save came into the store. */
  isOver(): void {
    this.failures = 0;
    if (!this.needsAttention) return;
    this.needsAttention = false;
    setAttributes({ KilnAttention: null });
  }
}
