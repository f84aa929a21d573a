/* The DuxNet module interface, version 1 ("dux-wasm/1"): docs/protocol/work.md says it in full.
 *
 * A module exports `memory` and the two functions below, and imports nothing but, if it likes, dux.progress. So there
 * is no file, clock, network or random number to reach: the output is a function of arguments and input alone.
 */
#ifndef DUX_H
#define DUX_H

typedef unsigned char u8;
typedef unsigned int u32;
typedef int i32;
typedef long long i64;

#define DUX_EXPORT(name) __attribute__((export_name(#name)))

/* Tell the node how far the job is, in thousandths. It changes nothing that the job can see. */
__attribute__((import_module("dux"), import_name("progress"))) void dux_progress(i32 permille);

/* Room for `size` bytes, 16-byte aligned; 0 when there is none. The node calls it for arguments and input. */
DUX_EXPORT(dux_alloc) u8 *dux_alloc(u32 size);

/* Arguments are UTF-8 lines. Answers (address << 32 | length) of the output, or a negative number: -code of a refusal. */
DUX_EXPORT(dux_run) i64 dux_run(const u8 *args, u32 args_len, const u8 *input, u32 input_len);

#endif
