/** Tests of workflows: a whole Perdure inside the test's process, time that skips, stubs, crashes at every point. */
export * from '@perdure/worker-sdk/testing';
