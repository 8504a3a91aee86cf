import { createQemuDriver } from '../../vmm/qemu/qemu-driver.ts';
import { describeVmDriver } from '../conformance/vm-driver-suite.ts';
import { imageVmSpec, silentLog, testTscRate } from '../support/vm-fixtures.ts';

describeVmDriver({
  name: 'QEMU driver',
  open: ({ stateDir, runtimeDir }) =>
    createQemuDriver({ stateDir, runtimeDir, log: silentLog, tscKhz: testTscRate, accel: 'tcg' }),
  spec: imageVmSpec,
  async crashGuest(vm) {
    const argv = ['sh', '-c', 'echo c > /proc/sysrq-trigger'];
    // The guest is gone before it can answer.
    await vm.agent.exec({ execId: 'crash', argv, cwd: '/', output: 'wait' }).catch(() => undefined);
  },
  lateMs: 100,
  explainsUnseenExits: true,
});
