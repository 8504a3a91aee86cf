/** The tiers of a session and the one table of legal moves between them. */
import type { Lifecycle } from '../lifecycle/lifecycle.ts';

export const TIERS = ['new', 'cold', 'restoring', 'hot', 'warm', 'evicting', 'closed', 'expired'] as const;

export type Tier = (typeof TIERS)[number];

/**
 * Every legal move. `cold → restoring` begins a wake. After the death of a VM, or a save that is undone, the session
 * goes to the tier where its files still are.
 */
export const SESSION_LIFECYCLE: Lifecycle<Tier> = {
  noun: 'session',
  initial: 'new',
  moves: {
    new: ['cold'],
    cold: ['restoring', 'closed', 'expired'],
    restoring: ['hot', 'cold'],
    hot: ['warm', 'cold', 'evicting'],
    warm: ['hot', 'evicting', 'cold'],
    evicting: ['cold', 'warm'],
    closed: [],
    expired: [],
  },
  lawfulClose: { completed: ['closed', 'expired'], cancelled: ['closed'], failed: [] },
};
