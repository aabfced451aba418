package fcm

// Unsaid lists what is written below the SDK.
func Unsaid() (list [][]string) {
	for _, p := range unsaid {
		list = append(list, p)
	}
	return list
}
