import { fileURLToPath } from 'node:url';
import { DEFAULT_HOST_SETTINGS } from '../../../host/host-settings.ts';
import type { InspectionSettings } from '../../../inspection/inspection-pool.ts';

export const SCRIPTED_READER = fileURLToPath(new URL('scripted-reader.ts', import.meta.url));
export const LIMITS = { maxBytes: 1_000_000, maxEntries: 100 };

const NEVER_MS = 3_600_000;

/** Limits too high to be reached, except those that a test overrides. */
export function inspectionSettings(overrides: Partial<InspectionSettings>): InspectionSettings {
  const unlimited = { cpuMs: NEVER_MS, wallMs: NEVER_MS };
  return {
    ...DEFAULT_HOST_SETTINGS.inspection,
    inspect: unlimited,
    pack: unlimited,
    lookEveryMs: 5,
    startMs: NEVER_MS,
    restartMs: 5,
    ...overrides,
  };
}
