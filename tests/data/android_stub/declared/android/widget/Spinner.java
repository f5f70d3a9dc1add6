package android.widget;

public class Spinner extends AdapterView<SpinnerAdapter> {
    public Spinner(android.content.Context context) {}

    public SpinnerAdapter getAdapter() { return null; }

    public void setAdapter(SpinnerAdapter adapter) {}
}
