//! Scalar code compiled for x86-64 processors with MULX and ADX, which multiply long integers a fifth faster.
//!
//! [`enter`]: run here with them if the processor has them, without them otherwise. The code is the same.
#![allow(unsafe_code)]

use super::Task;

/// Runs work with these instructions if the processor has them.
#[inline(always)]
pub fn enter<K, T: Task<K>>(kernel: K, task: T) -> T::Output {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("bmi2") && is_x86_feature_detected!("adx") {
        // SAFETY: the processor has the instructions: it was just asked, and the answer is remembered.
        return unsafe { with_instructions(kernel, task) };
    }
    task.run(kernel)
}

/// # Safety
/// The processor must have the instructions.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "bmi2,adx")]
unsafe fn with_instructions<K, T: Task<K>>(kernel: K, task: T) -> T::Output {
    task.run(kernel)
}

/// Asks for a value's cache lines, where there is an instruction for that.
#[inline(always)]
pub fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    for line in 0..size_of::<T>().div_ceil(64) {
        let line = std::ptr::from_ref(value)
            .cast::<i8>()
            .wrapping_add(64 * line);
        // SAFETY: a prefetch changes no state that a program can see, wherever it points.
        unsafe { std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(line) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}
