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

/// A card's memory as its driver tells it, in bytes, whoever has it.
pub struct Memory {
    /// The card's number in options.
    pub card: usize,
    pub total: u64,
    pub free: u64,
}

/// The memory of the cards with these numbers; if none is named, of those that llama.cpp takes by itself.
pub fn memory(wanted: &[usize]) -> Vec<Memory> {
    let cards = all();
    // Beside a card of its own memory llama.cpp leaves the processor's own one alone, unless it is named.
    let dedicated = cards.iter().any(is_dedicated);
    let taken = |number: usize, card: &LlamaBackendDevice| match wanted {
        [] => is_dedicated(card) || !dedicated,
        wanted => wanted.contains(&number),
    };
    let bytes = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
    let memory =
        |(card, device): (usize, &LlamaBackendDevice)| Memory { card, total: bytes(device.memory_total), free: bytes(device.memory_free) };
    cards.iter().enumerate().filter(|(number, card)| taken(*number, card)).map(memory).collect()
}

fn is_dedicated(card: &LlamaBackendDevice) -> bool {
    matches!(card.device_type, LlamaBackendDeviceType::Gpu)
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
