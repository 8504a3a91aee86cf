import { setCurrentDetails } from '@temporalio/workflow';
import type { MaintenanceActivities } from '../../activities/maintenance/maintenance-types.ts';
import {
  EMPTY_REPORT,
  MAX_PROBLEMS,
  type MaintenanceInput,
  type MaintenancePolicies,
  type MaintenanceReport,
  resolveMaintenancePolicies,
} from '../../domain/upkeep/maintenance.ts';
import { judge } from '../activity-verdict.ts';
import { controlMaintenance } from './maintenance-activities.ts';
import { maintenanceDetails } from './maintenance-details.ts';

/** What the steps of one run share: input, policies, report. */
export class MaintenanceContext {
  readonly input: MaintenanceInput;
  readonly policies: MaintenancePolicies;
  readonly control: MaintenanceActivities;
  private current: MaintenanceReport;
  private doing = 'begins';

  constructor(input: MaintenanceInput) {
    this.input = input;
    this.policies = resolveMaintenancePolicies(input.policies);
    this.control = controlMaintenance(this.policies);
    this.current = input.carried?.report ?? EMPTY_REPORT;
  }

  get report(): MaintenanceReport {
    return this.current;
  }

  /** Does one step. A failure is reported and does not stop the other steps. A cancel ends the run. */
  async step<T>(doing: string, work: () => Promise<T>): Promise<T | undefined> {
    this.begin(doing);
    try {
      return await work();
    } catch (error) {
      const verdict = judge(error);
      if (verdict.kind === 'cancelled') throw error;
      this.problem(`${doing}: ${verdict.message}`);
      return undefined;
    }
  }

  begin(doing: string): void {
    this.doing = doing;
    this.show();
  }

  problem(text: string): void {
    if (this.current.problems.length >= MAX_PROBLEMS) return;
    this.update({ problems: [...this.current.problems, text.slice(0, 500).toWellFormed()] });
  }

  update(patch: Partial<MaintenanceReport>): void {
    this.current = { ...this.current, ...patch };
    this.show();
  }

  private show(): void {
    setCurrentDetails(maintenanceDetails(this.current, this.doing));
  }
}
