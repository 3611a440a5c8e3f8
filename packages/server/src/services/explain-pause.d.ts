import { WaitReason } from '@perdure/proto';
import type { DispatchPause, Run, RunFacts } from '@perdure/store';
/** Why a run is not moving, for programs and for people. */
export interface Explanation {
    readonly reason: WaitReason;
    readonly text: string;
}
/** A paused run that no worker holds. */
export declare function explainPaused({ runId, pause }: Run, { now }: RunFacts): Explanation;
/** Of a run that is paused and that its worker has not given back yet. */
export declare function pausingText({ pause }: Run, { now }: RunFacts): string;
/** The run may be claimed, but its queue or its type is paused. */
export declare function explainDispatchPause(pause: DispatchPause, { now }: RunFacts, more: string): Explanation;
