//! exec-ext
