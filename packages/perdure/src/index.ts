/** The SDK: what workers and clients need. */
export * from '@perdure/worker-sdk';
