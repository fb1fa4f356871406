//! Graphics cards as llama.cpp sees them.

use llama_cpp_2::{LlamaBackendDevice, LlamaBackendDeviceType, list_llama_ggml_backend_devices};

use crate::model::backend;

/// All cards, in llama.cpp's order, which is how options number them.
pub fn all() -> Vec<LlamaBackendDevice> {
    // Devices are there only once llama.cpp is; if it does not start, loading says why.
    if backend().is_err() {
        return Vec::new();
    }
    let is_card =
        |device: &LlamaBackendDevice| matches!(device.device_type, LlamaBackendDeviceType::Gpu | LlamaBackendDeviceType::IntegratedGpu);
    list_llama_ggml_backend_devices().into_iter().filter(is_card).collect()
}

/// llama.cpp's own numbers of the cards with these numbers.
///
/// # Errors
/// A sentence for the operator: there is no such card.
pub fn devices(wanted: &[usize]) -> Result<Vec<usize>, String> {
    let cards = all();
    let device = |number: &usize| cards.get(*number).map(|card| card.index).ok_or_else(|| missing(*number, &cards));
    wanted.iter().map(device).collect()
}

fn missing(number: usize, cards: &[LlamaBackendDevice]) -> String {
    let known: Vec<String> = cards.iter().enumerate().map(|(n, card)| format!("{n} ({}, {})", card.name, card.description)).collect();
    match known.as_slice() {
        [] => format!("there is no card {number}: this program was built without `cuda` or `vulkan`, or no driver was found"),
        known => format!("there is no card {number}, but {}", known.join(", ")),
    }
}

/// Bytes in use on the cards with these numbers; on all if none is named.
pub fn in_use(wanted: &[usize]) -> u64 {
    let cards = all();
    let counted = cards.iter().enumerate().filter(|(number, _)| wanted.is_empty() || wanted.contains(number));
    counted.map(|(_, card)| u64::try_from(card.memory_total.saturating_sub(card.memory_free)).unwrap_or(u64::MAX)).sum()
}

#[cfg(test)]
mod tests {
    use super::devices;

    #[test]
    fn a_card_that_is_not_there_is_named() {
        let refused = devices(&[97]).expect_err("nobody has so many");
        assert!(refused.contains("no card 97"), "{refused}");
        assert_eq!(devices(&[]), Ok(Vec::new()));
    }
}
