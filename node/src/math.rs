//! `pow` and `exp` as a part of the program.
//!
//! Two libraries call them now and then: tokio for its statistics, hickory for its choice of a name
//! server. Were they taken from the system, the dynamic linker would load its `libm` for these two
//! alone, and half a megabyte of each daemon's memory would be that library.

#![expect(unsafe_code, reason = "the linker looks for these names")]

#[unsafe(no_mangle)]
extern "C" fn pow(base: f64, exponent: f64) -> f64 {
    libm::pow(base, exponent)
}

#[unsafe(no_mangle)]
extern "C" fn exp(exponent: f64) -> f64 {
    libm::exp(exponent)
}

#[cfg(test)]
mod tests {
    /// `powf` and `exp` of the standard library end here too, so the values are written down.
    #[test]
    fn they_tell_what_the_system_library_tells() {
        for (base, exponent, power) in [(2.0, 10.0, 1024.0), (0.9, 2.0, 0.81), (4.0, -0.5, 0.5)] {
            let close = (super::pow(base, exponent) - power).abs() < 1e-12;
            assert!(close, "{base} to the power of {exponent}");
        }
        assert!((super::exp(1.0) - std::f64::consts::E).abs() < 1e-12);
        assert_eq!(super::exp(f64::NEG_INFINITY), 0.0);
    }
}
